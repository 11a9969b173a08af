"""What a run on a GPU is judged by, and the page it is published on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from xloss_conformance.speed import gpu, gpu_check, gpu_targets
from xloss_conformance.speed.figures import reached
from xloss_conformance.speed.markdown_gpu import COMMAND, NOT_MEASURED, REHEARSAL, markdown_gpu
from xloss_conformance.speed.plan import BadPlan
from xloss_conformance.speed.publish import (
    GPU_DOCUMENT,
    GPU_RECORD,
    one_page,
    published,
    render,
    write,
)
from xloss_conformance.speed.targets import judged
from xloss_conformance.speed.work import Work

DOCS = Path(__file__).parents[1] / "docs"
Record = dict[str, Any]


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
    facts = {
        "rehearsal": False, "name": name, "versions": {}, "capability": "9.0",
        "memory_bytes": 141e9, "l2_bytes": 60e6, "processors": 132, "cuda": "13.0",
    }  # fmt: skip
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
