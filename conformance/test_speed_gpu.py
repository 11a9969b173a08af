"""Benchmarks on a GPU, rehearsed on the host: the plan, checks and times."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from xloss_conformance.case import numpy_dtype
from xloss_conformance.speed import gpu, gpu_check
from xloss_conformance.speed.clock import Call
from xloss_conformance.speed.contenders import Contender
from xloss_conformance.speed.plan import Plan, chosen, steps
from xloss_conformance.speed.work import Data, Work

pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
from xloss_conformance.speed import gpu_tasks

Record = dict[str, Any]
PACE = {"seconds": 1e-4, "rounds": 3}
ON_TORCH = ("xloss torch", "xloss torch, closed form", "torch")


def results(task: str, **arguments: Any) -> list[Record]:
    found = list(gpu_tasks.TASKS[task](threads=1, device="cpu", **arguments))
    assert [said for kind, said in found if kind == "missing"] == []
    return [entry for kind, entry in found if kind == "result"]


# ---- The plan ------------------------------------------------------------------------------------


def test_the_gpu_is_measured_when_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu.OP not in chosen(Plan())[0]
    monkeypatch.setattr(gpu, "device", lambda tiny: "cuda")
    planned = steps(Plan(ops=(gpu.OP,), threads=1))
    assert all(step.alone for step in planned)
    told = [
        (step.section, step.arguments.get("library"), step.arguments["task"], step.results)
        for step in planned
    ]
    assert told == [
        ("gpu", None, "facts", 1),
        ("checks", "torch", "check", 28), ("checks", "cupy", "check", 28),
        ("works", "torch", "times", 28), ("works", "torch", "host", 1),
        ("works", "cupy", "times", 28), ("works", "cupy", "host", 1),
        ("works", "jax", "times", 28),
    ]  # fmt: skip
    assert {step.arguments["device"] for step in planned} == {"cuda"}


def test_a_call_has_so_many_logits_whatever_its_classes() -> None:
    works = gpu.works("torch")
    assert {work.elements for work in works} == {2**29}
    assert [w.classes for w in works[:7]] == [1024, 4096, 16384, 32768, 65536, 131072, 262144]
    kinds = {(w.dtype, w.gradient) for w in works}
    assert kinds == {(d, g) for d in ("bfloat16", "float32") for g in (False, True)}
    assert {w.dtype for w in gpu.works("cupy")} == {"float16", "float32"}
    assert {w.shape[0] for w in gpu.checked("torch")} == {8}
    for work in works:  # rows that are repeated fit a whole number of times
        assert work.shape[0] % min(work.shape[0], gpu.DISTINCT // work.classes) == 0


def test_who_compiles_is_left_out_with_torch_compile() -> None:
    assert gpu.names("torch", ("torch", "optax")) == ON_TORCH
    assert gpu.names("jax", ("torch",)) == ()
    assert gpu.names("cupy", ()) == ("xloss cupy", "cupy by hand")


def test_bytes_are_those_of_the_way_that_a_call_goes() -> None:
    value, both = (Work(gpu.OP, (8, 100), g, "bfloat16") for g in (False, True))
    assert gpu.moved(value, "torch") == 1600 + 64
    assert gpu.moved(both, "xloss torch, closed form") == 2 * 1600 + 64
    assert gpu.moved(both, "cupy by hand") == 2 * 1600 + 64
    assert gpu.moved(both, "xloss torch") == 3 * 1600 + 2 * 64
    assert gpu.moved(both, "torch.compile") == 3 * 1600 + 2 * 64


# ---- Checks --------------------------------------------------------------------------------------


def test_every_way_through_xloss_is_compared_with_the_oracle() -> None:
    works = gpu.checked("torch", tiny=True)
    found = results("check", library="torch", works=works)
    assert [entry["name"] for entry in found] == [work.name for work in works]
    for entry in found:
        who = [one["contender"] for one in entry["of"]]
        assert who == (list(ON_TORCH[:2]) if entry["gradient"] else ["xloss torch"])
        for one in entry["of"]:
            assert one["reason"] == ""
            assert 0 <= one["value_ulp"] <= 4
            assert (one["gradient_ulp"] is not None) == entry["gradient"]


def test_an_error_of_one_entry_is_counted_in_ulp_of_its_format() -> None:
    for dtype, bits in (("float32", 24), ("bfloat16", 8)):
        work = Work(gpu.OP, (2, 16), True, dtype)
        (answer,) = gpu_check.answers([work], 1)
        right = answer.gradient.hi.astype(np.float32).astype(numpy_dtype(dtype))
        wrong = right.astype(np.float64)
        exponent = np.frexp(np.abs(wrong[1, 5]))[1] - 1
        wrong[1, 5] += 3 * 2.0 ** (exponent - (bits - 1))
        value = float(np.float32(answer.value.hi[0]))
        good = gpu_check.compared(work, (value, right.astype(np.float64)), answer)
        assert good["value_ulp"] <= 0.5
        assert good["gradient_ulp"] <= 0.51
        bad = gpu_check.compared(work, (np.nextafter(np.float32(value), 9), wrong), answer)
        assert 0.5 <= bad["value_ulp"] <= 1.5
        assert 2.4 <= bad["gradient_ulp"] <= 3.6
    assert gpu_check.compared(work, (float("nan"), wrong), answer)["value_ulp"] == gpu_check.BEYOND


def test_the_expected_answer_is_the_oracles() -> None:
    work = Work(gpu.OP, (8, 60), True, "float32")
    drawn = gpu.data(work)
    value, entries = gpu.expected(work, drawn)
    (answer,) = gpu_check.answers([work], 1)
    assert value == pytest.approx(float(answer.value.hi[0]), rel=1e-12)
    np.testing.assert_allclose(entries, gpu.spots(answer.gradient.hi, drawn.y), rtol=1e-9)


def test_rows_that_repeat_have_labels_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(gpu.OP, (8, 60), True)
    monkeypatch.setattr(gpu, "DISTINCT", 120)
    drawn = gpu.data(work)
    assert (drawn.x.shape, drawn.y.shape) == ((2, 60), (8,))
    value, entries = gpu.expected(work, drawn)
    whole = Data(np.tile(drawn.x, (4, 1)), drawn.y)
    again, too = gpu.expected(work, whole)
    assert value == pytest.approx(again, rel=1e-15)
    # The same rows, divided by the same number: but for the order of the sums, the same.
    np.testing.assert_allclose(entries, too, rtol=1e-15)
    from xloss_conformance.speed.by_torch_gpu import Device

    np.testing.assert_array_equal(np.asarray(Device("cpu").arrays(work, drawn).x), whole.x)


# ---- Contenders ----------------------------------------------------------------------------------


@pytest.mark.parametrize("gradient", [False, True])
def test_the_contenders_of_torch_take_turns_beside_a_copy(gradient: bool) -> None:
    works = [Work(gpu.OP, (32, 60), gradient, dtype) for dtype in ("float32", "bfloat16")]
    for found in results("times", library="torch", works=works, names=ON_TORCH, **PACE):
        who = [run["contender"] for run in found["runs"]]
        assert who == ([*ON_TORCH] if gradient else ["xloss torch", "torch"])
        assert (found["refused"], found["library"]) == ([], "torch")
        assert found["kind"] == ("gradient" if gradient else "forward")
        work = next(w for w in works if w.name == found["name"])
        for run in found["runs"]:
            assert run["runs"] == 3
            moved = gpu.moved(work, run["contender"])
            assert run["gb_s"] == pytest.approx(moved / run["median_ms"] / 1e6)
        assert found["bound"]["gb_s"] > 0


def test_optax_is_timed_in_a_process_of_its_own() -> None:
    pytest.importorskip("jax", reason="pip install 'xloss[jax]'")
    pytest.importorskip("optax", reason="pip install optax")
    works = [Work(gpu.OP, (32, 60), gradient, "bfloat16") for gradient in (False, True)]
    for found in results("times", library="jax", works=works, names=("optax",), **PACE):
        assert [run["contender"] for run in found["runs"]] == ["optax"]
        assert (found["refused"], found["bound"]) == ([], None)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_what_is_written_by_hand_with_cupy_is_the_loss(dtype: str) -> None:
    special = pytest.importorskip("scipy.special", reason="pip install scipy")
    pytest.importorskip("cupy", reason="pip install 'xloss[cupy]'")
    from xloss_conformance.speed import by_cupy

    work = Work(gpu.OP, (8, 60), True, dtype)
    drawn = gpu.data(work)
    value, entries = gpu.expected(work, drawn)
    got, gradient = by_cupy.loss_and_gradient(np, special.log_softmax, drawn.x, drawn.y)
    assert gradient.dtype == dtype
    loose = 1e-5 if dtype == "float32" else 1e-2
    assert float(got) == pytest.approx(value, rel=loose)
    assert float(by_cupy.loss(np, special.log_softmax, drawn.x, drawn.y)) == float(got)
    np.testing.assert_allclose(gpu.spots(gradient, drawn.y), entries, atol=loose / 8)


def test_a_call_of_the_host_is_not_waited_for() -> None:
    found = results("host", library="torch", names=("xloss torch", "torch"), runs=3, rounds=2)
    assert [(w["kind"], w["shape"], w["refused"]) for w in found] == [("host", [32, 1000], [])]
    assert [run["runs"] for run in found[0]["runs"]] == [2, 2]


class OutOfMemoryError(Exception):
    pass


def test_another_answer_and_too_little_memory_are_no_figures() -> None:
    def prepare(answer: Callable[[], float]) -> Callable[..., Call]:
        return lambda work, given, threads: Call(answer)

    def full() -> float:
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    work = Work(gpu.OP, (8, 60))
    drawn = gpu.data(work)
    right, _ = gpu.expected(work, drawn)
    who = [
        Contender(name, "torch", "", prepare(answer), True)
        for name, answer in (
            ("wrong", lambda: right * 1.01), ("full", full), ("right", lambda: right)
        )
    ]  # fmt: skip
    calls, refused = gpu_tasks.prepared(who, work, drawn, drawn, "cpu")
    assert list(calls) == ["right"]
    assert [r["reason"][:24] for r in refused] == ["computes something else:", "out of memory"]


def test_who_runs_out_of_memory_later_leaves_the_others_their_turns() -> None:
    class Device:
        most = 5
        turns = 0

        def seconds(self, call: Call, runs: int) -> float:
            self.turns += 1
            if call.run() == "full" and self.turns > 2:
                raise OutOfMemoryError
            return 0.5

    calls = {name: Call(partial(str, name)) for name in ("full", "copy")}
    refused: list[dict[str, str]] = []
    taken = gpu_tasks.in_turns(Device(), calls, refused, 1.0, 3)
    assert taken == {"copy": [0.5] * 3}
    assert refused == [{"contender": "full", "reason": "out of memory"}]


def test_who_compiles_is_not_begun_when_minutes_are_spent() -> None:
    works = [Work(gpu.OP, (8, 60))]
    names = ("torch", "torch.compile")
    (found,) = results("times", library="torch", works=works, names=names, limit=-1.0, **PACE)
    assert [run["contender"] for run in found["runs"]] == ["torch"]
    assert [r["contender"] for r in found["refused"]] == ["torch.compile"]
