"""What a run measures: which calls, whose, in which process, until when."""

import time

import pytest

from benchmarks import plan
from benchmarks.contenders import CONTENDERS
from benchmarks.plan import OPS, BadPlan, Plan, jobs


def calls(todo):
    """Return the calls of all processes, and who takes part in each."""
    groups = [group for job in todo for group in job.arguments.get("groups", ())]
    return [(work, set(group.names)) for group in groups for work in group.works]


def test_the_host_measures_what_is_asked():
    done = {work.op for work, _ in calls(jobs(Plan()))}
    assert done == set(OPS) - {"linear-large", "memory", "first-call"}
    forward = calls(jobs(Plan(ops=("forward",), peers=("torch", "scipy"))))
    shapes = [(65536, 10), (8192, 1000), (2048, 32000), (512, 128256)]
    assert [work.shape for work, _ in forward] == shapes
    # What torch.compile takes seconds for is left out with it.
    every = {name for name in plan.TABLES["who"]["every"] if "torch.compile" not in name}
    ours = {name for name in every if name.startswith("xloss ")}
    assert all(who == ours | {"torch", "scipy"} for _, who in forward)
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
    assert (first.task, ahead.task) == ("ahead:facts", "ahead:compile_ahead")
    arrays = [{CONTENDERS[n].arrays for _, who in calls([job]) for n in who} for job in timed]
    assert arrays == [{"torch"}, {"torch"}, {"cupy"}, *([] if quick else [{"jax"}])]
    ends = [job.until - began for job in (first, ahead, *timed)]
    assert ends == sorted(ends)
    assert ends[-1] <= seconds + 8
    for job in timed:  # each leaves off by itself before it is ended
        assert job.arguments["until"] < job.until
        assert job.arguments["device"] == "cuda"


@pytest.mark.usefixtures("gpu")
def test_peers_take_part_on_a_gpu_when_they_are_asked_for():
    ours = {"xloss torch", "xloss torch, closed form", "xloss cupy", "xloss jax", "cupy by hand"}
    for peers, named in (
        (["torch", "optax"], {"torch", "optax"}),
        (["quack"], {"Quack", "Quack, autograd"}),
        (["torch.compile"], {"torch.compile", "xloss torch.compile"}),
    ):
        todo = jobs(Plan("gpu", peers=peers))
        assert set().union(*(who for _, who in calls(todo))) == ours | named
        # What is kept on disk is compiled before the clock runs.
        first = {name for name, _, _ in todo[1].arguments["calls"]}
        kept = {name for name in named if name.startswith("Quack")}
        assert first == {"xloss torch", "xloss torch, closed form"} | kept


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Plan(ops=("fwd",)), "--op fwd: expected one of forward"),
        (Plan(peers=("jax",)), "--peer jax: expected one of torch"),
        (Plan("gpu", peers=("jax",), tiny=True), "--peer jax: expected one of torch"),
        (Plan(threads=10**6), "--threads 1000000: this machine has"),
        (Plan("gpu"), "gpu: nothing is measured: no GPU is found"),
    ],
)
def test_what_cannot_be_measured_is_one_line(monkeypatch, asked, said):
    monkeypatch.setattr(plan.xloss, "engines", lambda: {"cuda": "no GPU is found"})
    with pytest.raises(BadPlan, match=said):
        jobs(asked)
