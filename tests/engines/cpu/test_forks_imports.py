"""A fork while another thread imports the engine, or waits for it."""

import os

import pytest

from fresh import KERNEL

pytest.importorskip("numba")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


def test_a_fork_while_another_thread_imports_the_engine(env, tmp_path, forked):
    (tmp_path / "slow_import.py").write_text("import time; started = 1; time.sleep(1); done = 1\n")
    script = (
        KERNEL
        + """
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
    )
    assert forked(script, str(tmp_path), env=env) == "0"


def test_a_fork_that_waited_for_the_import_waits_for_the_first_compilation_too(env, forked):
    script = (
        KERNEL
        + """
from types import SimpleNamespace
compiler = SimpleNamespace(lock=threading.RLock())
importing = threading.Event()

def first_call():
    compiler.lock.acquire()
    with fork_safety.importing:
        importing.set()
        time.sleep(0.5)
        fork_safety.wait_for(compiler, "lock")
    time.sleep(0.5)
    compiler.lock.release()

def work():
    with compiler.lock:
        pass

thread = threading.Thread(target=first_call)
thread.start()
assert importing.wait(60)
print(in_a_child(work))
thread.join()
"""
    )
    assert forked(script, env=env) == "0"
