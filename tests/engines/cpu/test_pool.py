"""The threads of the CPU engine: every task once, whoever else is busy, whatever is raised."""

import gc
import os
import threading
import time
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

import xloss
from fresh import python, said
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


def test_as_many_threads_as_asked_for_work_on_one_call():
    meet = helpers_do(3)
    seen = set()

    def task(i):
        meet()
        seen.add(threading.get_ident())

    thread_pool.run(task, 3)
    assert len(seen) == 3
    assert threading.get_ident() in seen


def test_helpers_do_not_keep_the_process():
    script = POOL + "thread_pool.run(lambda i: time.sleep(0.01), 6)"
    assert python(script, env={"XLOSS_NUM_THREADS": "3"}, timeout=60).returncode == 0


def test_helpers_stay():
    thread_pool.run(lambda i: time.sleep(0.01), 6)
    before = {t.ident for t in threading.enumerate() if t.name == "xloss"}
    for _ in range(20):
        thread_pool.run(lambda i: None, 6)
    assert {t.ident for t in threading.enumerate() if t.name == "xloss"} == before


def test_one_thread_or_one_task_starts_none():
    script = (
        POOL
        + """
thread_pool.run(lambda i: None, 1)
os.environ["XLOSS_NUM_THREADS"] = "1"
thread_pool.run(lambda i: None, 100)
print(threading.active_count())
"""
    )
    assert said(script, env={"XLOSS_NUM_THREADS": "4"}) == "1"


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


def test_an_exception_of_a_helper_arrives():
    caller = threading.get_ident()
    meet = helpers_do(2)

    def task(i):
        meet()
        if threading.get_ident() != caller:
            raise ZeroDivisionError("by a helper")

    with pytest.raises(ZeroDivisionError, match="by a helper"):
        thread_pool.run(task, 2)
    thread_pool.run(lambda i: None, 2)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_what_is_running_ends_before_the_exception_is_raised(error):
    caller = threading.get_ident()
    meet = helpers_do(2)
    ended = []

    def task(i):
        meet()
        if threading.get_ident() == caller:
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


def test_the_number_of_threads(monkeypatch):
    assert thread_pool.threads() == 3
    monkeypatch.setenv("XLOSS_NUM_THREADS", "")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(thread_pool, "LIMITS", {})
    if hasattr(os, "process_cpu_count"):
        assert thread_pool.threads() == os.process_cpu_count()
    elif hasattr(os, "sched_getaffinity"):
        assert thread_pool.threads() == len(os.sched_getaffinity(0))
    else:
        assert thread_pool.threads() == os.cpu_count()


@pytest.mark.parametrize(
    ("own", "openmp", "limit", "number"),
    [
        ("", "3", None, 3),
        ("", " 2 , 1", None, 2),
        ("", "99", None, 8),
        ("", "0", None, 8),
        ("", "many", None, 8),
        ("", "4", 2, 2),
        ("", "2", 4, 2),
        ("", "", 16, 8),
        ("6", "3", 2, 6),
    ],
)
def test_other_libraries_settings_are_kept_to(monkeypatch, own, openmp, limit, number):
    monkeypatch.setattr(thread_pool, "_cpus", lambda: 8)
    monkeypatch.setenv("XLOSS_NUM_THREADS", own)
    monkeypatch.setenv("OMP_NUM_THREADS", openmp)
    monkeypatch.setattr(thread_pool, "LIMITS", {} if limit is None else {"torch": lambda: limit})
    assert thread_pool.threads() == number


def test_a_call_on_tensors_takes_no_more_threads_than_torch(monkeypatch):
    """Two pools of threads on the same CPUs took a training step from 2.2 to 6.5 s."""
    torch = pytest.importorskip("torch")
    monkeypatch.setenv("XLOSS_NUM_THREADS", "")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(thread_pool, "_cpus", lambda: 3)
    own, woken = thread_pool._Pool.help_with, []
    monkeypatch.setattr(
        thread_pool._Pool,
        "help_with",
        lambda self, job, helpers: woken.append(helpers) or own(self, job, helpers),
    )
    x, y = torch.zeros(4096, 200), torch.zeros(4096, dtype=torch.int64)
    before = torch.get_num_threads()
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            xloss.cross_entropy(x, y)
    finally:
        torch.set_num_threads(before)
    assert woken == [1, 2]  # beside the calling thread; one thread asks for no helper


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_the_cpus_that_this_process_may_use_count():
    script = (
        POOL
        + "os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); print(thread_pool.threads())"
    )
    assert said(script, env={"XLOSS_NUM_THREADS": ""}) == "1"
