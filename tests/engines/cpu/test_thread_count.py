"""How many threads the CPU engine takes: what the environment, PyTorch and the system say."""

import os

import pytest

import xloss
from xloss.engines.cpu import thread_pool


@pytest.mark.parametrize(
    ("own", "openmp", "limit", "number"),
    [
        ("3", "", None, 3),
        (" 007 ", "", None, 7),
        ("6", "3", 2, 6),
        ("", " 2 , 1", None, 2),
        ("", "99", None, 8),
        ("", "many", None, 8),
        ("", "4", 2, 2),
        ("", "2", 4, 2),
    ],
)
def test_the_number_of_threads(monkeypatch, own, openmp, limit, number):
    monkeypatch.setattr(thread_pool, "_cpus", lambda: 8)
    monkeypatch.setenv("XLOSS_NUM_THREADS", own)
    monkeypatch.setenv("OMP_NUM_THREADS", openmp)
    monkeypatch.setattr(thread_pool, "LIMITS", {} if limit is None else {"torch": lambda: limit})
    assert thread_pool.threads() == number


@pytest.mark.parametrize("given", ["0", "1.5", "٣", "1_0", "9" * 5000, "1\n"])
def test_a_number_of_threads_that_is_none_names_the_variable(monkeypatch, given):
    monkeypatch.setenv("XLOSS_NUM_THREADS", given)
    with pytest.raises(ValueError, match=r"^XLOSS_NUM_THREADS: expected a positive integer, got '"):
        thread_pool.threads()


def test_a_call_on_tensors_takes_no_more_threads_than_torch(monkeypatch):
    """Two pools of threads on the same CPUs took a training step from 2.2 to 6.5 s."""
    torch = pytest.importorskip("torch")
    monkeypatch.setenv("XLOSS_NUM_THREADS", "")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(thread_pool, "_cpus", lambda: 3)
    xloss.cross_entropy(torch.zeros(4, 200), torch.zeros(4, dtype=torch.int64))
    before = torch.get_num_threads()
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            assert thread_pool.threads() == number
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_the_cpus_that_this_process_may_use_count(monkeypatch):
    monkeypatch.setenv("XLOSS_NUM_THREADS", "")
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, [min(before)])
    try:
        assert thread_pool.threads() == 1
    finally:
        os.sched_setaffinity(0, before)
