"""The threads of the CPU engine: every task once, whoever is busy, whatever is raised or ends."""

import gc
import sys
import threading
import time
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from fresh import said
from xloss.engines.cpu import thread_pool

POOL = "import os, signal, sys, threading, time\nfrom xloss.engines.cpu import thread_pool\n"


@pytest.fixture(autouse=True)
def _three_threads(monkeypatch):
    monkeypatch.setenv("XLOSS_NUM_THREADS", "3")


def helpers_do(count=3):
    """Return what makes a task wait until so many threads are running one."""
    barrier = threading.Barrier(count)
    return lambda: barrier.wait(60)


@contextmanager
def busy_helpers():
    """Keep both helpers, and a thread that is not this one, busy with another call."""
    meet, held, release = helpers_do(), [], threading.Event()

    def hold(i):
        meet()
        held.append(i)
        release.wait(60)

    with ThreadPoolExecutor(1) as other:
        call = other.submit(thread_pool.run, hold, 3)
        while len(held) < 3:
            time.sleep(0.001)
        try:
            yield
        finally:
            release.set()
        call.result(60)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 1000])
def test_every_task_runs_once(count):
    ran = []
    thread_pool.run(ran.append, count)
    assert sorted(ran) == list(range(count))


def test_one_thread_or_one_task_starts_none(monkeypatch):
    monkeypatch.setattr(thread_pool, "_current", thread_pool._Pool())
    thread_pool.run(lambda i: None, 1)
    monkeypatch.setenv("XLOSS_NUM_THREADS", "1")
    thread_pool.run(lambda i: None, 100)
    assert thread_pool._current.started == 0


def test_the_first_exception_is_raised_and_no_task_is_started_after_it():
    started = []

    def task(i):
        started.append(i)
        if i == 5:
            raise KeyError(i)
        time.sleep(0.001)

    with pytest.raises(KeyError, match=r"^5$"):
        thread_pool.run(task, 10_000)
    assert len(started) < 100


@pytest.mark.parametrize("by_caller", [True, False])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_what_is_running_ends_before_the_exception_is_raised(error, by_caller):
    caller = threading.get_ident()
    meet = helpers_do(2)
    ended = []

    def task(i):
        meet()
        if (threading.get_ident() == caller) == by_caller:
            raise error
        time.sleep(0.1)
        ended.append(i)

    with pytest.raises(error):
        thread_pool.run(task, 2)
    assert len(ended) == 1


def test_an_error_leaves_nothing_of_the_call_alive():
    class Big:
        pass

    big = Big()
    alive = weakref.ref(big)

    def call(big=big):
        def task(i):
            raise ValueError(big)

        with pytest.raises(ValueError, match="Big"):
            thread_pool.run(task, 8)

    gc.disable()
    try:
        call()
        del big, call
        deadline = time.monotonic() + 30
        while alive() is not None and time.monotonic() < deadline:
            time.sleep(0.001)  # a helper that came too late lets go of the call
        assert alive() is None
    finally:
        gc.enable()


def test_a_call_whose_helpers_are_busy_does_its_work_alone():
    seen = set()
    with busy_helpers():
        thread_pool.run(lambda i: seen.add(threading.get_ident()), 50)
    assert seen == {threading.get_ident()}


def test_calls_inside_tasks_end():
    ran = Counter()

    def outer(i):
        thread_pool.run(lambda j: ran.update([(i, j)]), 5)

    thread_pool.run(outer, 8)
    assert sorted(ran) == [(i, j) for i in range(8) for j in range(5)]
    assert set(ran.values()) == {1}


def test_many_threads_at_once_each_get_their_own_answers():
    def call(seed):
        out = [0] * 40

        def task(i):
            out[i] = seed * 1000 + i

        for _ in range(50):
            thread_pool.run(task, 40)
            assert out == [seed * 1000 + i for i in range(40)]
            out[:] = [0] * 40

    with ThreadPoolExecutor(16) as many:
        list(many.map(call, range(16)))
    assert sum(t.name == "xloss" for t in threading.enumerate()) <= 2


def test_a_call_right_after_one_that_ended_too_soon_for_its_helpers_has_them():
    thread_pool.run(lambda i: time.sleep(0.01), 6)
    for _ in range(50):
        meet = helpers_do(3)
        thread_pool.run(lambda i: None, 3)
        thread_pool.run(lambda i: meet(), 3)  # noqa: B023


def test_calls_do_not_pile_up_before_busy_helpers():
    with busy_helpers():
        for _ in range(1000):
            thread_pool.run(lambda i: None, 3)
        assert thread_pool._current.calls.qsize() <= 2
        assert len(thread_pool._current.jobs) == 1


def test_where_no_thread_can_be_started_the_caller_works(monkeypatch):
    def refused(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(thread_pool, "_current", thread_pool._Pool())
    monkeypatch.setattr(threading.Thread, "start", refused)
    ran = []
    thread_pool.run(ran.append, 7)
    assert sorted(ran) == list(range(7))


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_interrupts_are_raised_and_nothing_hangs():
    """Ctrl-C a thousand times a second, between any two lines of a call."""
    script = """
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
    assert said(POOL + script, env={"XLOSS_NUM_THREADS": "3"}) == "0"
