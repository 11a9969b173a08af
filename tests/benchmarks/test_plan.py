"""What a run measures: which calls, whose, in which process, until when."""

import time

import pytest

from benchmarks import plan
from benchmarks.contenders import CONTENDERS
from benchmarks.plan import OPS, Plan, jobs
from benchmarks.processes import BenchFailed


def calls(todo):
    """Return the calls of all processes, and who takes part in each."""
    groups = [group for job in todo for group in job.arguments.get("groups", ())]
    return [(work, set(group.names)) for group in groups for work in group.works]


def test_the_host_measures_what_is_asked():
    done = {work.op for work, _ in calls(jobs(Plan()))}
    assert done == set(OPS) - {"linear-large", "memory", "first-call"}
    for work, who in calls(jobs(Plan(ops=("forward",)))):
        # The value of one is another's, and the other compiles for seconds.
        left_out = {"xloss torch, closed form"}
        if work.classes not in (1000, 32000):
            left_out.add("xloss torch.compile, generic")
        assert {*plan.TABLES["who"]["every"]} - who == left_out
    assert {work.op for work, _ in calls(jobs(Plan(ops=("linear-large",))))} == {"linear-large"}
    threads = [job.threads for job in jobs(Plan(ops=("threads", "small")))]
    assert threads == sorted(threads, reverse=True)
    assert threads[-1] == 1


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(plan.xloss, "engines", lambda: {"cuda": None})


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(("quick", "seconds"), [(False, 300), (True, 90)])
def test_each_library_has_a_process_of_its_own_on_a_gpu_and_is_over_in_time(quick, seconds):
    began = time.monotonic()
    first, ahead, *timed = jobs(Plan("gpu", quick=quick))
    assert (first.task, ahead.task) == ("tasks:facts", "tasks:compile_ahead")
    arrays = [{CONTENDERS[n].arrays for _, who in calls([job]) for n in who} for job in timed]
    assert arrays == [{"torch"}, {"torch"}, {"cupy"}, *([] if quick else [{"jax"}])]
    ends = [job.until - began for job in (first, ahead, *timed)]
    assert ends == sorted(ends)
    assert ends[-1] <= seconds + 8
    for job in timed:  # each leaves off by itself before it is ended
        assert job.arguments["until"] < job.until
        assert job.arguments["device"] == "cuda"


def test_what_cannot_be_measured_is_one_line(monkeypatch):
    monkeypatch.setattr(plan.xloss, "engines", lambda: {"cuda": "no GPU is found"})
    with pytest.raises(BenchFailed, match="gpu: nothing is measured: no GPU is found"):
        jobs(Plan("gpu"))
