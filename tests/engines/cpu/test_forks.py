"""A fork while other threads compile or import: the child computes the same, and ends."""

import os

import pytest

from fresh import KERNEL

pytest.importorskip("numba")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

# A kernel whose compilation takes a second, and says when it is under way. Python's logging takes a
# lock of its own before a fork, and Numba asks it whether to log.
SLOW = (
    KERNEL
    + """
import logging
from numba.extending import overload

compiling = threading.Event()

def slowly(x):
    raise NotImplementedError

@overload(slowly)
def _slowly(x):
    compiling.set()
    time.sleep(1)
    logging.getLogger("new")
    return lambda x: x * 2.0

@kernel
def slow(x, out):
    for i in range(len(x)):
        out[i] = slowly(x[i])

def use_both():
    assert computed(steps) == [1.0, 4.0, 7.0, 10.0]
    assert computed(slow) == [0.0, 2.0, 4.0, 6.0]

def by_another_thread():
    thread = threading.Thread(target=use_both)
    thread.start()
    thread.join(50)
    assert not thread.is_alive()
    use_both()
"""
)
# A kernel that was kept on disk is loaded before any is compiled.
LOADED = "from xloss.engines.cpu import kept_objects\nkept_objects._target()\n"


@pytest.mark.parametrize("first", ["", LOADED], ids=["compiled", "loaded"])
def test_a_fork_while_another_thread_compiles(env, first, forked):
    """Neither waits for the other, and what the fork held is released as often as it was taken."""
    script = """
thread = threading.Thread(target=computed, args=(slow,))
thread.start()
assert compiling.wait(60)
start = time.monotonic()
print(in_a_child(by_another_thread), time.monotonic() - start < fork_safety.PATIENCE / 2)
thread.join()
by_another_thread()
print(*came_from_disk(slow))
"""
    assert forked(first + SLOW + script, env=env) == "0 True\n0 1"


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
