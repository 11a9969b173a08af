"""Benchmarks on a GPU, rehearsed on the host: the plan, and how its calls go."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks import plan
from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.plan import BadPlan, Plan
from benchmarks.processes import Job
from benchmarks.right import right
from benchmarks.work import Data, Work
from xloss_conformance.timing import Call

pytest.importorskip("torch", reason="pip install 'xloss[torch]'")

from benchmarks import tasks
from benchmarks.libraries import Torch

Record = dict[str, Any]
PACE: dict[str, Any] = {"seconds": 1e-4, "least": 3, "most": 3}
ON_TORCH = ("xloss torch", "xloss torch, closed form", "torch")


def found(works: list[Work], names: tuple[str, ...], **how: Any) -> list[tuple[str, Any]]:
    return list(tasks.times(1, [tasks.Group(works, names, PACE)], "cpu", **how))


def results(works: list[Work], names: tuple[str, ...]) -> list[Record]:
    got = found(works, names)
    assert [said for kind, said in got if kind == "missing"] == []
    return [entry for kind, entry in got if kind == "works"]


# ---- The plan ------------------------------------------------------------------------------------


def planned(monkeypatch: pytest.MonkeyPatch, quick: bool = False, **asked: Any) -> list[Job]:
    monkeypatch.setattr(plan.xloss, "engines", lambda: {"cuda": None})
    return plan.jobs(Plan("gpu", quick=quick, **asked))


def timed(jobs: list[Job]) -> list[tuple[Work, tuple[str, ...]]]:
    """Return the calls of all processes, and who takes part in each."""
    groups = [group for job in jobs for group in job.arguments.get("groups", ())]
    return [(work, tuple(group.names)) for group in groups for work in group.works]


def test_each_library_has_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = planned(monkeypatch)
    assert [(job.task, len(timed([job]))) for job in jobs] == [
        ("ahead:facts", 0),
        ("ahead:compile_ahead", 0),
        ("tasks:times", 17),
        ("tasks:times", 18),
        ("tasks:times", 14),
        ("tasks:times", 8),
    ]
    assert {job.arguments["device"] for job in jobs} == {"cuda"}
    arrays = [{CONTENDERS[n].arrays for _, who in timed([job]) for n in who} for job in jobs[2:]]
    assert arrays == [{"torch"}, {"torch"}, {"cupy"}, {"jax"}]


@pytest.mark.parametrize(("quick", "seconds"), [(False, 300), (True, 90)])
def test_a_run_is_over_in_time(
    quick: bool, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = time.monotonic()
    jobs = planned(monkeypatch, quick=quick)
    ends = [job.until - began for job in jobs]
    assert ends == sorted(ends)
    assert ends[-1] <= seconds + 8
    for job in jobs[2:]:  # each leaves off by itself before it is ended
        assert job.arguments["until"] < job.until


def test_without_a_gpu_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan.xloss, "engines", lambda: {"cuda": "no GPU is found"})
    with pytest.raises(BadPlan, match="gpu: nothing is measured: no GPU is found"):
        plan.jobs(Plan("gpu"))
    with pytest.raises(BadPlan, match="--peer jax: expected one of torch"):
        plan.jobs(Plan("gpu", peers=("jax",), tiny=True))


def test_a_call_has_so_many_logits_whatever_its_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = timed(planned(monkeypatch))
    of_torch = [work for work, who in calls if "xloss torch" in who]
    rows = [work for work in of_torch if work.op in ("forward", "gradient")]
    assert {work.elements for work in rows} == {2**29}
    assert {w.classes for w in rows} == {1024, 4096, 16384, 32768, 65536, 131072, 262144}
    kinds = {(w.dtype, w.gradient) for w in rows}
    assert kinds == {(d, g) for d in ("bfloat16", "float32") for g in (False, True)}
    assert {w.dtype for w, who in calls if "xloss cupy" in who} == {"float16", "float32"}
    linear = [(w.shape, w.features, w.dtype) for w in of_torch if w.features]
    assert linear == [((8192, 131072), 4096, "bfloat16")]
    assert {w.shape for w in of_torch if w.axis == 1} == {(8, 21, 512, 512)}


def test_peers_take_part_when_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def who(*peers: str) -> set[str]:
        return {n for _, names in timed(planned(monkeypatch, peers=peers)) for n in names}

    ours = {"xloss torch", "xloss torch, closed form", "xloss cupy", "xloss jax", "cupy by hand"}
    assert who("torch", "optax") == ours | {"torch", "optax"}
    assert who("quack") == ours | {"Quack", "Quack, autograd"}
    assert who("torch.compile") == ours | {"torch.compile", "xloss torch.compile"}
    # Whoever compiles seconds for every shape is timed on a few.
    calls = timed(planned(monkeypatch))
    compiled = {(w.dtype, w.classes) for w, names in calls if "xloss torch.compile" in names}
    assert compiled == {("bfloat16", 32768)}
    jobs = planned(monkeypatch, peers=("quack",))
    ahead = {name for name, _, _ in jobs[1].arguments["calls"]}
    assert ahead == {"xloss torch", "xloss torch, closed form", "Quack", "Quack, autograd"}


# ---- Contenders ----------------------------------------------------------------------------------


CALLS = [
    Work("gradient", (32, 60), True),
    Work("gradient", (32, 60), True, "bfloat16"),
    Work("forward", (32, 60), False, "bfloat16"),
    Work("segmentation", (2, 3, 4, 5), True, "bfloat16", 1),
    Work("segmentation", (2, 3, 4, 5), False, axis=1),
    Work("linear", (8, 50), True, "bfloat16", features=16),
    Work("host", (32, 1000), True),
    Work("host", (32, 1000)),
]


def test_every_kind_of_call_goes_the_whole_way_on_torch() -> None:
    entries = results(CALLS, ON_TORCH)
    assert [entry["op"] for entry in entries] == [work.op for work in CALLS]
    for work, entry in zip(CALLS, entries, strict=True):
        who = [run["contender"] for run in entry["runs"]]
        assert who == ([*ON_TORCH] if work.gradient else ["xloss torch", "torch"])
        assert (entry["refused"], entry["library"]) == ([], "torch")
        for run in entry["runs"]:
            assert run["runs"] >= 1
            # The same bytes, whichever way a call goes.
            assert run["gb_s"] == pytest.approx(work.moved / run["median_ms"] / 1e6)
            if run["contender"] != "torch" and not work.features:
                assert run["value_ulp"] <= 4
                assert (run["gradient_ulp"] is not None) == work.gradient
            assert ("peak_bytes" in run) == bool(work.features)
        if work.op == "host":
            assert entry["bound"] is None
        else:
            assert entry["bound"]["gb_s"] > 0
    assert entries[5]["bound"]["by"] == "the three products alone"


def test_a_copys_time_counts_for_the_bytes_that_the_loss_must_move() -> None:
    work = Work("forward", (8, 60))
    copies = Torch("cpu").bounds(work, Torch("cpu").given(work))
    entry = tasks.timed(work, {}, {"at the speed of a copy": [3.0]}, copies)
    assert entry["bound"]["median_ms"] == pytest.approx(3e3 * work.moved / (2 * 8 * 60 * 4))
    assert entry["bound"]["gb_s"] == pytest.approx(2 * 8 * 60 * 4 / 3e9)


def test_jax_is_timed_without_a_copy() -> None:
    pytest.importorskip("jax", reason="pip install 'xloss[jax]'")
    pytest.importorskip("optax", reason="pip install optax")
    works = [Work("forward", (32, 60), gradient, "bfloat16") for gradient in (False, True)]
    for entry in results(works, ("xloss jax", "optax")):
        assert [run["contender"] for run in entry["runs"]] == ["xloss jax", "optax"]
        assert (entry["refused"], entry["bound"]) == ([], None)


class OutOfMemoryError(Exception):
    pass


def prepared(place: tasks.Place, **answers: Callable[[], float]) -> Any:
    """Return what comes of contenders that return these, where 1 is right."""
    work = Work("forward", (8, 60))

    def prepare(answer: Callable[[], float]) -> Callable[..., Call]:
        return lambda work, given, where: Call(answer)

    who = [Contender(name, prepare(of), "torch") for name, of in answers.items()]
    want = right(work, Data(None, None))._replace(value=1.0)
    return tasks.prepared(who, work, {"torch": Data(None, None)}, want, place)


def test_another_answer_and_too_little_memory_are_no_figures() -> None:
    def full() -> float:
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    calls, checks, refused = prepared(
        tasks.Place(), wrong=lambda: 1.01, full=full, right=lambda: 1.0
    )
    assert list(calls) == list(checks) == ["right"]
    assert [r["reason"][:24] for r in refused] == ["computes something else:", "out of memory"]


def test_who_compiles_longer_than_allowed_is_not_begun_again() -> None:
    place = tasks.Place(until=time.monotonic() + 900, spent={"slow": 39.0})
    assert list(prepared(place, slow=lambda: 1.0)[0]) == ["slow"]
    place.spent["slow"] = 41.0
    calls, _, refused = prepared(place, slow=lambda: 1.0)
    assert (calls, refused[0]["reason"]) == ({}, "left out: its first calls had taken 41 s")


def test_no_call_is_begun_when_the_time_is_over() -> None:
    got = found(CALLS, ON_TORCH, until=time.monotonic() - 1)
    assert [kind for kind, _ in got] == ["contenders"] * 3 + ["missing"]
    assert got[3][1].startswith("no time was left to measure, with torch: float32 (32, 60)")


def test_arrays_that_cannot_be_made_leave_the_other_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Torch.given

    def full(self: Any, work: Work) -> Any:
        if work.gradient:
            raise OutOfMemoryError
        return given(self, work)

    monkeypatch.setattr(Torch, "given", full)
    got = found(CALLS[1:3], ON_TORCH[:1])
    assert [kind for kind, _ in got] == ["contenders", "missing", "works"]
    assert got[1][1] == f"not measured, with torch: {CALLS[1].name}: out of memory"
    assert np.isfinite(got[2][1]["runs"][0]["median_ms"])
