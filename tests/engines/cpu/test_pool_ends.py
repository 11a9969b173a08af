"""The pool of threads when its process is interrupted, or ends."""

import sys

import pytest

from fresh import python, said

POOL = "import os, signal, sys, threading, time\nfrom xloss.engines.cpu import thread_pool\n"


@pytest.fixture(autouse=True)
def _three_threads(monkeypatch):
    monkeypatch.setenv("XLOSS_NUM_THREADS", "3")


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_interrupts_are_raised_and_nothing_hangs():
    """Ctrl-C a thousand times a second, between any two lines of a call."""
    script = (
        POOL
        + """
signal.alarm(120)
main, over = threading.get_ident(), threading.Event()
running, calls, interrupts, late = [], 0, 0, 0

def task(i):
    if threading.get_ident() != main:
        running.append(i)
        time.sleep(0.0002)
        running.remove(i)

def interrupt(number, frame):
    while frame is not None:
        if frame.f_code is thread_pool.run.__code__:
            raise KeyboardInterrupt
        frame = frame.f_back

def ring():
    while not over.wait(0.001):
        os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, interrupt)
threading.Thread(target=ring, daemon=True).start()
while min(calls, interrupts) < 150:
    try:
        thread_pool.run(task, 4)
        calls += 1
    except KeyboardInterrupt:
        late += len(running)
        interrupts += 1
over.set()
signal.signal(signal.SIGINT, signal.SIG_IGN)
all_three = threading.Barrier(3)
thread_pool.run(lambda i: all_three.wait(60), 3)
print(late)
"""
    )
    assert said(script, env={"XLOSS_NUM_THREADS": "3"}) == "0"


def test_the_process_ends_while_daemon_threads_are_in_the_middle():
    script = (
        POOL
        + """
def loop():
    while True:
        thread_pool.run(lambda i: sum(range(2000)), 8)

for _ in range(3):
    threading.Thread(target=loop, daemon=True).start()
time.sleep(0.05 * int(sys.argv[1]))
"""
    )
    for turn in range(3):
        ran = python(script, str(turn), env={"XLOSS_NUM_THREADS": "3"})
        assert (ran.returncode, ran.stderr) == (0, "")


def test_a_call_works_at_exit():
    script = (
        POOL
        + """
import atexit

def last():
    done = []
    thread_pool.run(done.append, 50)
    print(len(done))

atexit.register(last)
if len(sys.argv) > 1:
    thread_pool.run(lambda i: None, 50)
"""
    )
    for used in ([], ["used"]):
        assert said(script, *used, env={"XLOSS_NUM_THREADS": "3"}) == "50"
