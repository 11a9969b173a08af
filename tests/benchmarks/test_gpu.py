"""Benchmarks on a GPU, rehearsed on the host: the plan, checks and times."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from benchmarks.contenders import Contender, NotOffered
from benchmarks.gpu import check, plan
from benchmarks.plan import BadPlan
from benchmarks.processes import Job
from benchmarks.work import Work
from xloss_conformance import oracle
from xloss_conformance.timing import Call

pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
import torch

from benchmarks.gpu import tasks
from benchmarks.gpu.on_torch import Device

Record = dict[str, Any]
PACE: dict[str, Any] = {
    "seconds": 1e-4,
    "rounds": 3,
    "most": 1.0,
    "until": float("inf"),
    "tiny": True,
}
ON_TORCH = ("xloss torch", "xloss torch, closed form", "torch")


def results(**arguments: Any) -> list[Record]:
    found = list(tasks.times(threads=1, device="cpu", **arguments))
    assert [said for kind, said in found if kind == "missing"] == []
    return [entry for kind, entry in found if kind == "works"]


# ---- The plan ------------------------------------------------------------------------------------


def planned(monkeypatch: pytest.MonkeyPatch, quick: bool = False, **asked: Any) -> list[Job]:
    monkeypatch.setattr(plan.xloss, "engines", lambda: {"cuda": None})
    return plan.jobs(quick, tiny=False, **asked)


def test_each_library_has_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    found = planned(monkeypatch)
    assert [
        (job.task, job.arguments.get("library"), len(job.arguments.get("works", ())))
        for job in found
    ] == [
        ("gpu.ahead:facts", None, 0),
        ("gpu.ahead:compile_ahead", None, 0),
        ("gpu.tasks:times", "torch", 17),
        ("gpu.tasks:times", "torch", 18),
        ("gpu.tasks:times", "cupy", 14),
        ("gpu.tasks:times", "jax", 8),
    ]
    assert {job.arguments["device"] for job in found} == {"cuda"}


@pytest.mark.parametrize(("quick", "seconds"), [(False, 300), (True, 90)])
def test_a_run_is_over_in_time(
    quick: bool, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = time.monotonic()
    found = planned(monkeypatch, quick=quick)
    ends = [job.until - began for job in found]
    assert ends == sorted(ends)
    assert ends[-1] <= seconds + 8
    for job in found[2:]:  # each leaves off by itself before it is ended
        assert job.arguments["until"] < job.until


def test_without_a_gpu_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan.xloss, "engines", lambda: {"cuda": "no GPU is found"})
    with pytest.raises(BadPlan, match="gpu: nothing is measured: no GPU is found"):
        plan.jobs(quick=False, tiny=False)
    with pytest.raises(BadPlan, match="--peer jax: expected one of torch"):
        plan.jobs(quick=False, tiny=True, peers=("jax",))


def test_a_call_has_so_many_logits_whatever_its_classes() -> None:
    works = [w for w in plan.works("torch") if w.op == plan.OP]
    assert {work.elements for work in works} == {2**29}
    assert {w.classes for w in works} == {1024, 4096, 16384, 32768, 65536, 131072, 262144}
    kinds = {(w.dtype, w.gradient) for w in works}
    assert kinds == {(d, g) for d in ("bfloat16", "float32") for g in (False, True)}
    assert {w.dtype for w in plan.works("cupy")} == {"float16", "float32"}
    linear = [w for w in plan.works("torch") if w.features]
    assert [(w.shape, w.features, w.dtype) for w in linear] == [((8192, 131072), 4096, "bfloat16")]
    assert {w.shape for w in plan.works("torch") if w.axis == 1} == {(8, 21, 512, 512)}


def test_peers_take_part_when_they_are_asked_for() -> None:
    assert plan.names("torch", ("torch", "optax")) == ON_TORCH
    assert plan.names("torch", ("quack",)) == (*ON_TORCH[:2], "Quack", "Quack, autograd")
    assert plan.names("jax", ("torch",)) == ("xloss jax",)
    assert plan.names("cupy", ()) == ("xloss cupy", "cupy by hand")


# ---- What must come out --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_expected_answer_is_the_oracles(dtype: str) -> None:
    work = Work(plan.OP, (8, 60), True, dtype)
    drawn = plan.data(work.op, work.shape, work.dtype)
    rows = [
        oracle.softmax_row("cross_entropy", x.astype(np.float64).tolist(), label)
        for x, label in zip(drawn.x, drawn.y.tolist(), strict=True)
    ]
    want = check.right(work)
    assert want.value == pytest.approx(float(sum(r.loss for r in rows) / 8), rel=1e-14)
    np.testing.assert_allclose(want.losses, [float(r.loss) for r in rows], rtol=1e-14)
    exact = [[float(v / 8) for v in r.grad] for r in rows]
    assert want.gradient is not None
    np.testing.assert_allclose(want.gradient, exact, rtol=1e-13)
    assert want.losses[0] == pytest.approx(59 * np.exp(-20.0), rel=1e-6)  # the tail


def test_rows_that_repeat_have_labels_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(plan.OP, (8, 61), True)
    monkeypatch.setattr(plan, "DISTINCT", 3 * 61)  # three rows: eight are no multiple of them
    drawn = plan.data(work.op, work.shape, work.dtype)
    assert (drawn.x.shape, drawn.y.shape) == ((3, 61), (8,))
    given, want = Device("cpu").given(work)
    x: Any = given.x
    z, y = x.double(), given.y
    losses = torch.logsumexp(z, -1) - z[torch.arange(8), y]
    # The first row's tail is lost to plain subtraction.
    np.testing.assert_allclose(want.losses[1:], losses[1:], rtol=1e-13)
    np.testing.assert_array_equal(x[3:6].numpy(), drawn.x)


def test_the_errors_are_counted_in_ulp() -> None:
    for dtype, bits in (("float32", 24), ("bfloat16", 8)):
        work = Work(plan.OP, (2, 16), True, dtype)
        want = check.right(work)
        assert want.gradient is not None
        wrong = want.gradient.copy()
        exponent = np.frexp(np.abs(wrong[1, 5]))[1] - 1
        wrong[1, 5] += 3 * 2.0 ** (exponent - (bits - 1))
        losses = want.losses * np.asarray([0.5, 1 + 2.0**-22])

        def errors(got: Any, losses: Any = losses, work: Work = work) -> dict[str, Any]:
            call = Call(lambda: None, answer=lambda got: got, losses=lambda: losses)
            return check.compared(work, call, got, check.right(work))

        found = errors((want.value, wrong))
        assert 2.9 < found["gradient_ulp"] < 3.1
        assert 2 <= found["value_ulp"] <= 4
        assert found["tail"] == -0.5
        assert errors((want.value, want.gradient), want.losses)["gradient_ulp"] == 0
        with pytest.raises(NotOffered, match="computes something else"):
            errors((1.1 * want.value, wrong))
        with pytest.raises(NotOffered, match="another gradient"):
            errors((want.value, 1.1 * want.gradient))
        assert errors((want.value, wrong), np.full(2, np.nan))["value_ulp"] == check.BEYOND


# ---- Contenders ----------------------------------------------------------------------------------


CALLS = [
    Work(plan.OP, (32, 60), True),
    Work(plan.OP, (32, 60), True, "bfloat16"),
    Work(plan.OP, (32, 60), False, "bfloat16"),
    Work(plan.SEGMENTATION, (2, 3, 4, 5), True, "bfloat16", 1),
    Work(plan.SEGMENTATION, (2, 3, 4, 5), False, axis=1),
    Work(plan.LINEAR, (8, 50), True, "bfloat16", features=16),
    Work(plan.HOST, (32, 1000), True),
    Work(plan.HOST, (32, 1000)),
]


def test_every_kind_of_call_goes_the_whole_way_on_torch() -> None:
    kinds = ["gradient"] * 2 + ["forward"] + ["segmentation"] * 2 + ["linear"] + ["host"] * 2
    found = results(library="torch", works=CALLS, names=ON_TORCH, **PACE)
    assert [entry["kind"] for entry in found] == kinds
    for work, entry in zip(CALLS, found, strict=True):
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
        if work.op == plan.HOST:
            assert entry["bound"] is None
        else:
            assert entry["bound"]["gb_s"] > 0
    assert found[5]["bound"]["by"] == "the three products alone"


def test_jax_has_a_process_of_its_own() -> None:
    pytest.importorskip("jax", reason="pip install 'xloss[jax]'")
    pytest.importorskip("optax", reason="pip install optax")
    works = [Work(plan.OP, (32, 60), gradient, "bfloat16") for gradient in (False, True)]
    for found in results(library="jax", works=works, names=plan.WHO["jax"], **PACE):
        runs = {run["contender"]: run["engine"] for run in found["runs"]}
        assert runs == {"xloss jax": "generic, traced", "optax": ""}
        assert (found["refused"], found["bound"]) == ([], None)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_what_is_written_by_hand_with_cupy_is_the_loss(dtype: str) -> None:
    special = pytest.importorskip("scipy.special", reason="pip install scipy")
    pytest.importorskip("cupy", reason="pip install 'xloss[cupy]'")
    from benchmarks.gpu import on_cupy

    work = Work(plan.OP, (8, 60), True, dtype)
    drawn, want = plan.data(work.op, work.shape, dtype), check.right(work)
    got, gradient = on_cupy.loss_and_gradient(np, special.log_softmax, drawn.x, drawn.y)
    assert gradient.dtype == dtype
    loose = 1e-5 if dtype == "float32" else 1e-2
    assert float(got) == pytest.approx(want.value, rel=loose)
    assert float(on_cupy.loss(np, special.log_softmax, drawn.x, drawn.y)) == float(got)
    assert want.gradient is not None
    np.testing.assert_allclose(gradient, want.gradient, atol=loose / 8)


class OutOfMemoryError(Exception):
    pass


def test_another_answer_and_too_little_memory_are_no_figures() -> None:
    def prepare(answer: Callable[[], float]) -> Callable[..., Call]:
        return lambda work, given, threads: Call(answer)

    def full() -> float:
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    work = Work(plan.OP, (8, 60))
    given, want = Device("cpu").given(work)
    answers = {"wrong": lambda: want.value * 1.01, "full": full, "right": lambda: want.value}
    who = [Contender(name, "torch", "", prepare(of), True) for name, of in answers.items()]
    calls, checks, refused = tasks.prepared(who, work, given, want, "cpu", {})
    assert list(calls) == list(checks) == ["right"]
    assert [r["reason"][:24] for r in refused] == ["computes something else:", "out of memory"]


def test_who_compiles_longer_than_allowed_is_not_begun_again() -> None:
    work = Work(plan.OP, (8, 60))
    given, want = Device("cpu").given(work)
    who = [Contender("slow", "torch", "", lambda *call: Call(lambda: want.value), True)]
    spent = {"slow": 39.0}
    assert list(tasks.prepared(who, work, given, want, "cpu", spent)[0]) == ["slow"]
    spent["slow"] = 41.0
    calls, _, refused = tasks.prepared(who, work, given, want, "cpu", spent)
    assert (calls, refused[0]["reason"]) == ({}, "left out: its first calls had taken 41 s")


class Clock:
    """A device on which a call takes as many seconds as its answer says."""

    most = 5

    def __init__(self) -> None:
        self.calls = 0

    def seconds(self, call: Call, runs: int) -> float:
        self.calls += runs + 1
        got = call.run()
        if got == "full" and self.calls > 10:
            raise OutOfMemoryError
        return 0.5 if isinstance(got, str) else float(got)


def test_who_runs_out_of_memory_later_leaves_the_others_their_turns() -> None:
    calls = {name: Call(partial(str, name)) for name in ("full", "copy")}
    refused: list[dict[str, str]] = []
    taken = tasks.in_turns(Clock(), calls, refused, 1.0, 3)
    assert taken == {"copy": [0.5] * 3}
    assert refused == [{"contender": "full", "reason": "out of memory"}]


def test_who_is_slow_has_fewer_turns() -> None:
    calls = {"slow": Call(lambda: 0.8), "slower": Call(lambda: 9.0), "quick": Call(lambda: 1e-3)}
    taken = tasks.in_turns(Clock(), calls, [], 0.01, 7, most=2.0)
    assert {name: len(of) for name, of in taken.items()} == {"slow": 1, "slower": 1, "quick": 7}


def test_no_call_is_begun_when_the_time_is_over() -> None:
    asked: dict[str, Any] = {"library": "torch", "works": CALLS, "names": ON_TORCH, **PACE}
    asked["until"] = time.monotonic() - 1
    found = dict(tasks.times(threads=1, device="cpu", **asked))
    assert list(found) == ["contenders", "missing"]
    assert found["missing"].startswith("no time was left to measure, with torch: float32 (32, 60)")


def test_arrays_that_cannot_be_made_leave_the_other_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Device.given

    def full(self: Any, work: Work) -> Any:
        if work.gradient:
            raise OutOfMemoryError
        return given(self, work)

    monkeypatch.setattr(Device, "given", full)
    asked: dict[str, Any] = {"library": "torch", "works": CALLS[1:3], "names": ON_TORCH[:1]}
    found = list(tasks.times(threads=1, device="cpu", **asked, **PACE))
    assert [kind for kind, _ in found] == ["contenders", "missing", "works"]
    assert found[1][1] == f"not measured, with torch: {CALLS[1].name}: out of memory"
