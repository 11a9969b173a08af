"""Benchmarks on a GPU, rehearsed on the host: checks, times, targets and the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xloss_conformance.case import numpy_dtype
from xloss_conformance.speed import gpu, gpu_check, gpu_targets
from xloss_conformance.speed.clock import Call
from xloss_conformance.speed.contenders import Contender
from xloss_conformance.speed.figures import reached
from xloss_conformance.speed.markdown_gpu import COMMAND, NOT_MEASURED, REHEARSAL, markdown_gpu
from xloss_conformance.speed.plan import BadPlan, Plan, chosen, steps
from xloss_conformance.speed.publish import (
    GPU_DOCUMENT,
    GPU_RECORD,
    one_page,
    published,
    render,
    write,
)
from xloss_conformance.speed.targets import judged
from xloss_conformance.speed.work import Data, Work

pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
from xloss_conformance.speed import gpu_tasks

DOCS = Path(__file__).parents[1] / "docs"
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
        ("gpu", None, "facts", 1), ("checks", "torch", "check", 28), ("checks", "cupy", "check", 28),
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

    calls = {name: Call(lambda name=name: name) for name in ("full", "copy")}  # type: ignore[misc]
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


# ---- Targets and the page ------------------------------------------------------------------------


def timed(
    library: str, gradient: bool, classes: int, ms: dict[str, float], dtype: str = "bfloat16",
    kind: str = "",
) -> Record:  # fmt: skip
    """Return a work's entry; the copy moves 4,000 GB/s."""
    work = Work(gpu.OP, (2**29 // classes, classes), gradient, dtype)
    bound = {"by": "", "gb_s": 4000.0, "median_ms": work.moved / 4e9}
    runs = [
        {"contender": name, "engine": "", "runs": 3, "median_ms": t, "min_ms": t, "q1_ms": t,
         "q3_ms": t, "gb_s": gpu.moved(work, name) / t / 1e6, "elements_s": 1.0}
        for name, t in ms.items()
    ]  # fmt: skip
    kind = kind or ("gradient" if gradient else "forward")
    return {
        **work.told(), "kind": kind, "library": library, "runs": runs, "refused": [],
        "bound": bound if kind != "host" else None,
    }  # fmt: skip


def record(*works: Record, checks: tuple[Record, ...] = (), name: str = "NVIDIA H200") -> Record:
    facts = {"rehearsal": False, "name": name, "versions": {}, "capability": "9.0",
             "memory_bytes": 141e9, "l2_bytes": 60e6, "processors": 132, "cuda": "13.0"}  # fmt: skip
    made: Record = {
        "schema": 1, "xloss": "0.1.0", "date": "2026-11-23", "threads": 2, "load": [0.1, 2.0],
        "command": COMMAND, "ops": ["gpu"], "works": list(works), "checks": list(checks),
        "gpu": [facts], "memory": [], "contenders": [], "missing": [], "versions": {},
        "machine": {"python": "3.12", "platform": "Linux", "processor": "a CPU", "cores": 2},
        "seconds": 1.0,
    }  # fmt: skip
    made["targets"] = judged(made)
    return made


def met(made: Record, against: str) -> dict[str, bool]:
    return {t["subject"]: t["met"] for t in made["targets"] if t["against"] == against}


@pytest.mark.parametrize(
    ("classes", "gradient", "share"),
    [(1024, False, 0.70), (4096, False, 0.85), (262144, False, 0.85), (1024, True, 0.80)],
)
def test_a_share_of_the_copys_speed_is_wanted(classes: int, gradient: bool, share: float) -> None:
    who = "xloss torch, closed form" if gradient else "xloss torch"
    for off, reached_it in ((0.999, False), (1.001, True)):
        work = timed("torch", gradient, classes, {who: 1.0}, "float32")
        ms = work["moved"] / (4e9 * share * off)
        made = record(timed("torch", gradient, classes, {who: ms}, "float32"))
        assert met(made, "copy") == {who: reached_it}


def test_autograd_is_judged_beside_its_peers_and_not_beside_the_copy() -> None:
    ms = {"xloss torch, closed form": 1.0, "xloss torch": 1.8, "xloss torch.compile": 9.0,
          "torch": 3.7, "torch.compile": 2.0}  # fmt: skip
    made = record(timed("torch", True, 4096, ms))
    assert met(made, "torch") == {"xloss torch, closed form": True, "xloss torch": True}
    assert met(made, "torch.compile") == {"xloss torch, closed form": True, "xloss torch": False}
    assert list(met(made, "copy")) == ["xloss torch, closed form"]


def test_xloss_on_cupy_is_to_be_four_times_the_hand_written() -> None:
    for ours, reached_it in ((0.25, True), (0.2501, False)):
        ms = {"xloss cupy": ours, "cupy by hand": 1.0}
        made = record(timed("cupy", False, 4096, ms, "float16"))
        assert met(made, "cupy by hand") == {"xloss cupy": reached_it}


def test_quacks_share_is_of_the_data_sheets_speed() -> None:
    who = "xloss torch, closed form"
    work = timed("torch", True, 65536, {who: 1.0})
    for share, reached_it in ((0.9498, False), (0.95, True)):
        ms = {who: work["moved"] / (4.8e9 * share)}
        assert met(record(timed("torch", True, 65536, ms)), "Quack") == {who: reached_it}
    unknown = record(timed("torch", True, 65536, {who: 1.0}), name="NVIDIA GH200 480GB")
    assert met(unknown, "Quack") == {}


def test_who_could_not_be_timed_has_reached_nothing() -> None:
    made = record(timed("torch", False, 4096, {"torch": 1.0}))
    assert met(made, "copy") == {"xloss torch": False}
    assert met(made, "torch") == {"xloss torch": False}
    host = record(timed("torch", False, 1024, {}, "float32", "host"))
    assert [t["met"] for t in host["targets"]] == [False]


def test_a_call_takes_the_host_less_than_so_many_microseconds() -> None:
    for ms, reached_it in ((0.0249, True), (0.025, False)):
        made = record(timed("torch", False, 1024, {"xloss torch": ms}, "float32", "host"))
        assert [(t["kind"], t["met"]) for t in made["targets"]] == [("microseconds", reached_it)]


def compared(dtype: str, value: float, gradient: float | None) -> Record:
    told = Work(gpu.OP, (8, 4096), True, dtype).told()
    of = [{"contender": "xloss torch", "value_ulp": value, "gradient_ulp": gradient, "reason": ""}]
    return {**told, "library": "torch", "of": of}


@pytest.mark.parametrize(
    ("dtype", "value", "gradient", "wanted"),
    [
        ("float32", 4.0, 4.0, [True, True]), ("float32", 4.01, 4.01, [False, False]),
        ("bfloat16", 4.0, 1.0, [True, True]), ("float16", 4.0, 1.01, [True, False]),
        ("float32", 1.0, None, [True]), ("float32", gpu_check.BEYOND, None, [False]),
    ],
)  # fmt: skip
def test_errors_beside_the_oracle_are_targets(
    dtype: str, value: float, gradient: float | None, wanted: list[bool]
) -> None:
    made = record(checks=(compared(dtype, value, gradient),))
    assert [t["met"] for t in made["targets"]] == wanted


def test_the_page_says_what_is_missed() -> None:
    who = "xloss torch, closed form"
    made = record(timed("torch", True, 4096, {who: 1.0, "torch": 1.5}),
                  checks=(compared("float32", 0.5, 4.5),))  # fmt: skip
    made["works"][0]["refused"] = [{"contender": "torch.compile", "reason": "out of memory"}]
    page = markdown_gpu(made)
    assert f"by `{COMMAND}`" in page
    assert "**1.50× (≥ 2×) missed by 25.0 %**" in page
    assert "GPU: NVIDIA H200, compute capability 9.0" in page
    assert "torch.compile: out of memory." in page
    assert "Not measured" not in page
    assert "rehearsal" not in page
    assert reached(made["targets"][1]) == "4.50 ulp (≤ 4 ulp) missed by 12.5 %"


def test_a_page_of_nothing_measured_says_so_and_holds_no_figure() -> None:
    page = markdown_gpu(None)
    assert NOT_MEASURED in page
    assert COMMAND in page
    for name in (*gpu_targets.RATIOS, "ms", "median"):
        assert f"| {name}" not in page


def test_the_published_page_is_what_there_is_to_say() -> None:
    again = "draw it again: xloss bench --publish docs --render"
    kept = published(DOCS, GPU_RECORD) if (DOCS / GPU_RECORD).exists() else None
    assert (DOCS / GPU_DOCUMENT).read_text("utf-8") == markdown_gpu(kept), again
    if kept is not None:
        assert judged(kept) == kept["targets"], again
        assert not any(facts["rehearsal"] for facts in kept["gpu"])
    assert GPU_DOCUMENT in (DOCS / "performance.md").read_text("utf-8")


def test_a_run_on_a_gpu_is_written_alone_and_drawn_again(tmp_path: Path) -> None:
    made = record(timed("torch", False, 4096, {"xloss torch": 1.0, "torch": 4.0}))
    write(made, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {GPU_RECORD, GPU_DOCUMENT}
    page = (tmp_path / GPU_DOCUMENT).read_text("utf-8")
    assert page == markdown_gpu(published(tmp_path, GPU_RECORD))
    (tmp_path / GPU_DOCUMENT).unlink()
    render(tmp_path)
    assert (tmp_path / GPU_DOCUMENT).read_text("utf-8") == page


def test_a_rehearsal_is_named_one() -> None:
    made = record(timed("torch", False, 4096, {"xloss torch": 1.0}))
    made["gpu"] = [{"rehearsal": True, "name": "none", "versions": {}}]
    assert REHEARSAL in markdown_gpu(made)


def test_the_gpu_has_a_page_of_its_own() -> None:
    one_page(("gpu",))
    for ops in (("gpu", "forward"), ("gpu", "dask")):
        with pytest.raises(BadPlan, match="--publish: a page of its own is for"):
            one_page(ops)
