"""A fork while other threads compute, compile or import: the child computes the same, and ends."""

import os

import pytest

from fresh import KERNEL

pytest.importorskip("numba")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

# A kernel whose compilation takes a second, and says when it is under way.
SLOW = (
    KERNEL
    + """
from numba.extending import overload

compiling = threading.Event()

def slowly(x):
    raise NotImplementedError

@overload(slowly)
def _slowly(x):
    compiling.set()
    time.sleep(1)
    return lambda x: x * 2.0

@kernel()
def slow(x, out):
    for i in range(len(x)):
        out[i] = slowly(x[i])

def expect(f, right):
    got = computed(f)
    assert got == right, got

def use_both():
    expect(steps, [1.0, 4.0, 7.0, 10.0])
    expect(slow, [0.0, 2.0, 4.0, 6.0])
"""
)


def test_a_child_forked_from_a_busy_process(env, forked):
    script = """
def loop():
    while not over:
        thread_pool.run(lambda i: computed(), 6)

over = []
computed()
threads = [threading.Thread(target=loop) for _ in range(3)]
for thread in threads:
    thread.start()
codes = [in_a_child(lambda: thread_pool.run(lambda i: computed(), 50)) for _ in range(20)]
over.append(True)
for thread in threads:
    thread.join()
print(set(codes))
"""
    assert forked(KERNEL + script, env=env) == "{0}"


@pytest.mark.parametrize("kept", ["nothing kept", "one kept"])
def test_a_fork_while_another_thread_compiles(env, kept, forked):
    if kept == "one kept":
        forked(KERNEL + "computed()", env=env)
    script = """
thread = threading.Thread(target=computed, args=(slow,))
thread.start()
assert compiling.wait(60)
code = in_a_child(use_both)
thread.join()
use_both()
print(code, *came_from_disk(slow))
"""
    assert forked(SLOW + script, env=env) == "0 0 1"


def test_a_fork_does_not_wait_while_it_holds_what_the_compiler_needs(env, forked):
    """Python's logging takes its own lock before a fork; Numba asks it whether to log."""
    script = (
        SLOW.replace("time.sleep(1)", "time.sleep(1); import logging; logging.getLogger('new')")
        + """
thread = threading.Thread(target=computed, args=(slow,))
thread.start()
assert compiling.wait(60)
start = time.monotonic()
print(in_a_child(use_both), time.monotonic() - start < fork_safety.PATIENCE / 2)
thread.join()
"""
    )
    assert forked(script, env=env) == "0 True"


@pytest.mark.parametrize("name", ["numba.core.compiler_lock.global_compiler_lock", "ffi.lib._lock"])
def test_a_lock_that_is_never_released_does_not_keep_a_fork_for_ever(env, name, forked):
    script = (
        KERNEL
        + f"""
from llvmlite.binding import ffi
import numba.core.compiler_lock
fork_safety.PATIENCE = 0.5
held = threading.Event()

def hold():
    with {name}:
        held.set()
        time.sleep(10)

threading.Thread(target=hold, daemon=True).start()
assert held.wait(60)
"""
        + """
def work():
    assert computed() == [1, 4, 7, 10]

start = time.monotonic()
print(in_a_child(work), time.monotonic() - start < 9)
"""
    )
    assert forked(script, env=env) == "0 True"


def test_other_threads_compile_after_a_fork_in_child_and_parent(env, forked):
    """What the forking thread holds across the fork is released, as often as it was taken."""
    script = """
def by_another_thread():
    thread = threading.Thread(target=use_both)
    thread.start()
    thread.join(50)
    assert not thread.is_alive()
    use_both()

print([in_a_child(by_another_thread), in_a_child(lambda: None)])
by_another_thread()
"""
    assert forked(SLOW + script, env=env) == "[0, 0]"


def test_a_fork_while_another_thread_imports_the_engine(env, tmp_path, forked):
    (tmp_path / "slow_import.py").write_text("import time; started = 1; time.sleep(1); done = 1\n")
    script = """
sys.path.insert(0, sys.argv[1])

def load():
    with fork_safety.importing:
        import slow_import
        assert slow_import.done

thread = threading.Thread(target=load)
thread.start()
while not hasattr(sys.modules.get("slow_import"), "started"):
    time.sleep(0.001)
print(in_a_child(load))
thread.join()
"""
    assert forked(KERNEL + script, str(tmp_path), env=env) == "0"
