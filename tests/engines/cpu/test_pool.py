"""The threads of the CPU engine: every task once, whoever is busy, whatever is raised or ends."""

import gc
import threading
import time
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from xloss.engines.cpu import thread_pool


@pytest.fixture(autouse=True)
def _three_threads(monkeypatch):
    monkeypatch.setenv("XLOSS_NUM_THREADS", "3")


@pytest.mark.parametrize("count", [0, 1, 2, 3, 1000])
def test_every_task_runs_once(count):
    ran = []
    thread_pool.run(ran.append, count)
    assert sorted(ran) == list(range(count))


def test_no_task_is_started_after_an_exception():
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
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_is_running_ends_before_the_exception_is_raised(error, by_caller):
    caller = threading.get_ident()
    meet = threading.Barrier(2)
    ended = []

    def task(i):
        meet.wait(60)
        if (threading.get_ident() == caller) == by_caller:
            raise error
        time.sleep(0.1)
        ended.append(i)

    with pytest.raises(error):
        thread_pool.run(task, 2)
    assert len(ended) == 1


def test_a_call_that_is_over_keeps_nothing_alive():
    """A helper that took part waits for the next call, and lets go of this one."""
    meet = threading.Barrier(2)

    class Big:
        def task(self, i):
            meet.wait(60)

    big = Big()
    alive = weakref.ref(big)
    thread_pool.run(big.task, 2)
    del big
    deadline = time.monotonic() + 10
    while alive() is not None and time.monotonic() < deadline:
        time.sleep(0.001)
    assert alive() is None


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


def test_calls_whose_helpers_are_busy_do_their_work_alone_and_do_not_pile_up():
    meet, release, seen = threading.Barrier(4), threading.Event(), set()

    def hold(i):
        meet.wait(60)
        release.wait(60)

    with ThreadPoolExecutor(1) as other:
        call = other.submit(thread_pool.run, hold, 3)
        meet.wait(60)
        for _ in range(1000):
            thread_pool.run(lambda i: seen.add(threading.get_ident()), 3)
        waiting, jobs = thread_pool._current.calls.qsize(), len(thread_pool._current.jobs)
        release.set()
        call.result(60)
    assert seen == {threading.get_ident()}
    assert (waiting <= 2, jobs) == (True, 1)


def test_calls_inside_tasks_end():
    ran = Counter()

    def outer(i):
        thread_pool.run(lambda j: ran.update([(i, j)]), 5)

    thread_pool.run(outer, 8)
    assert ran == Counter((i, j) for i in range(8) for j in range(5))


def test_where_no_thread_can_be_started_the_caller_works(monkeypatch):
    def refused(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(thread_pool, "_current", thread_pool._Pool())
    monkeypatch.setattr(threading.Thread, "start", refused)
    ran = []
    thread_pool.run(ran.append, 7)
    assert sorted(ran) == list(range(7))
