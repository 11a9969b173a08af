"""What a run on a GPU is judged by, and the page it is published on."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.figures import reached
from benchmarks.pages import WORDS, page
from benchmarks.right import BEYOND
from benchmarks.targets import judge
from benchmarks.work import Work

Record = dict[str, Any]
judged = judge("gpu")


def timed(
    library: str,
    gradient: bool,
    classes: int,
    ms: dict[str, float],
    dtype: str = "bfloat16",
    kind: str = "",
) -> Record:
    """Return a work's entry; the copy moves 4,000 GB/s, the products take 37 ms."""
    op = kind or ("gradient" if gradient else "forward")
    work = Work(op, (2**29 // max(classes, 1), classes), gradient, dtype)
    if kind == "linear":
        work = Work(op, (8192, 131072), True, dtype, features=4096)
    if kind == "segmentation":
        work = Work(op, (8, 21, 512, 512), gradient, dtype, 1)
    least = 37.0 if kind == "linear" else work.moved / 4e9
    ms_of = ("median_ms", "min_ms", "q1_ms", "q3_ms")
    bound = {"by": "the three products alone", "gb_s": 4000.0, "runs": 3}
    bound |= dict.fromkeys(ms_of, least)
    none = {"value_ulp": None, "gradient_ulp": None, "tail": None, "peak_bytes": 700 * 2**20}
    runs = [
        {
            "contender": name,
            "engine": "",
            "runs": 3,
            "gb_s": work.moved / t / 1e6,
            "elements_s": 1.0,
            **dict.fromkeys(ms_of, t),
            **none,
        }
        for name, t in ms.items()
    ]
    return {
        **work.told(),
        "library": library,
        "runs": runs,
        "refused": [],
        "bound": bound if kind != "host" else None,
    }


def record(*works: Record) -> Record:
    facts = {
        "rehearsal": False,
        "name": "NVIDIA H200",
        "versions": {"torch": "2.11.0"},
        "memory_bytes": 141e9,
        "l2_bytes": 60e6,
        "processors": 132,
        "cuda": "13.0",
        "driver": "580.159.04",
        "capability": "9.0",
    }
    made: Record = {
        "schema": 1,
        "xloss": "0.1.0",
        "date": "2026-11-23",
        "threads": 2,
        "load": [0.1, 2.0],
        "command": "python -m benchmarks gpu",
        "works": list(works),
        "gpu": [facts],
        "compiled": [],
        "contenders": [],
        "missing": [],
        "versions": {},
        "machine": {"python": "3.12", "platform": "Linux", "processor": "a CPU", "cores": 2},
        "seconds": 1.0,
    }
    made["targets"] = judged(made)
    return made


def met(made: Record, against: str) -> dict[str, bool]:
    return {t["subject"]: t["met"] for t in made["targets"] if t["against"] == against}


ONE, TWO = "xloss torch, closed form", "xloss torch"


@pytest.mark.parametrize(
    ("dtype", "who", "gradient", "classes", "share"),
    [
        ("bfloat16", TWO, False, 1024, 0.85),
        ("bfloat16", TWO, False, 262144, 0.86),
        ("bfloat16", ONE, True, 4096, 0.96),
        ("bfloat16", TWO, True, 65536, 0.87),
        ("float32", ONE, True, 131072, 0.90),
        ("float32", TWO, False, 32768, 1.02),
    ],
)
def test_a_share_of_the_copys_speed_is_wanted(
    dtype: str, who: str, gradient: bool, classes: int, share: float
) -> None:
    for off, reached_it in ((0.999, False), (1.001, True)):
        work = timed("torch", gradient, classes, {who: 1.0}, dtype)
        # The same bytes by every way: logits read once, the gradient written once.
        ms = work["moved"] / (4e9 * share * off)
        made = record(timed("torch", gradient, classes, {who: ms}, dtype))
        assert met(made, "bound")[who] is reached_it


def test_every_peer_is_left_behind() -> None:
    peers = {"torch": 3.7, "torch.compile": 3.0, "Quack": 1.1, "Quack, autograd": 1.7}
    made = record(timed("torch", True, 4096, {ONE: 1.0, TWO: 1.8, **peers}))
    assert met(made, "torch") == {ONE: True, TWO: True}
    assert met(made, "torch.compile") == {ONE: True, TWO: False}
    assert met(made, "Quack") == {ONE: True}
    assert met(made, "Quack, autograd") == {TWO: False}


def test_xloss_on_cupy_is_to_be_five_times_the_hand_written() -> None:
    for ours, reached_it in ((0.2, True), (0.2001, False)):
        ms = {"xloss cupy": ours, "cupy by hand": 1.0}
        made = record(timed("cupy", False, 4096, ms, "float16"))
        assert met(made, "cupy by hand") == {"xloss cupy": reached_it}


def test_a_linear_layer_is_held_against_its_products() -> None:
    for ours, reached_it in ((44.3, True), (44.5, False)):
        ms = {ONE: ours, TWO: 50.0, "torch": 48.9, "Liger": 44.4}
        made = record(timed("torch", True, 0, ms, kind="linear"))
        assert met(made, "bound") == {ONE: reached_it}
        assert met(made, "Liger") == {ONE: reached_it}
        assert met(made, "torch") == {ONE: True}
        assert met(made, "") == {ONE: True}  # memory
    made["works"][0]["runs"][0]["peak_bytes"] = 769 * 2**20
    made["targets"] = judged(made)
    assert met(made, "") == {ONE: False}
    said = page(made, "performance-gpu")
    assert "| xloss torch, closed form | 44.5 | 769 |" in said
    assert "| *the three products alone* | 37.0 | – |" in said


def test_pixels_and_the_host_have_targets() -> None:
    made = record(timed("torch", False, 0, {TWO: 1.0}, kind="segmentation"))
    assert list(met(made, "bound")) == [TWO]
    for ms, reached_it in ((0.025, True), (0.0251, False)):
        made = record(timed("torch", False, 1024, {TWO: ms, "torch": 0.01}, "float32", "host"))
        assert [(t["kind"], t["met"]) for t in made["targets"]] == [("microseconds", reached_it)]
    for ms, reached_it in ((0.149, True), (0.151, False)):
        made = record(timed("torch", True, 1024, {TWO: ms, "torch": 0.1}, "float32", "host"))
        assert met(made, "torch") == {TWO: reached_it}


def test_who_could_not_be_timed_has_reached_nothing() -> None:
    made = record(timed("torch", False, 4096, {"torch": 1.0}))
    assert met(made, "bound") == {TWO: False}
    assert met(made, "torch") == {TWO: False}
    host = record(timed("torch", False, 1024, {}, "float32", "host"))
    assert [t["met"] for t in host["targets"]] == [False]


@pytest.mark.parametrize(
    ("dtype", "value", "gradient", "wanted"),
    [
        ("float32", 4.0, 4.0, [True, True]),
        ("float32", 4.01, 4.01, [False, False]),
        ("bfloat16", 4.0, 1.0, [True, True]),
        ("float16", 4.0, 1.01, [True, False]),
        ("float32", 1.0, None, [True]),
        ("float32", BEYOND, None, [False]),
    ],
)
def test_the_worst_errors_are_targets(
    dtype: str, value: float, gradient: float | None, wanted: list[bool]
) -> None:
    works = [timed("torch", True, classes, {TWO: 1.0, "torch": 9.0}, dtype) for classes in (60, 70)]
    works[0]["runs"][0] |= {"value_ulp": value, "gradient_ulp": gradient}
    works[1]["runs"][0] |= {"value_ulp": 0.1}
    works[1]["runs"][1] |= {"value_ulp": 1e6}  # a peer's
    made = record(*works)
    assert [t["met"] for t in made["targets"] if t["kind"] == "ulp"] == wanted


def test_the_page_says_what_is_missed_and_what_was_not_measured() -> None:
    made = record(timed("torch", True, 4096, {ONE: 1.0, "torch": 1.5}))
    made["works"][0]["refused"] = [{"contender": "torch.compile", "reason": "out of memory"}]
    made["works"][0]["runs"][0] |= {"value_ulp": 4.5, "tail": -0.074}
    made["missing"] = ["no time was left to measure, with jax: a call"]
    made["targets"] = judged(made)
    said = page(made, "performance-gpu")
    assert "Measured by `python -m benchmarks gpu`" in said
    assert "**1.50× (≥ 2×) missed by 25.0 %**" in said
    assert "GPU: NVIDIA H200, compute capability 9.0" in said
    assert "driver 580.159.04, CUDA 13.0; torch 2.11.0." in said
    assert "- torch.compile: bfloat16 (131072, 4096), value and gradient: out of memory" in said
    assert "- no time was left to measure, with jax: a call" in said
    assert "| xloss torch, closed form | bfloat16 | 4.50 | – | -0.074 |" in said
    # In the one table of shares there is no other class count.
    row = next(line for line in said.splitlines() if line.startswith("| xloss torch | value | "))
    assert row == "| xloss torch | value | not measured |"
    assert "rehearsal" not in said
    ulp = next(t for t in made["targets"] if t["kind"] == "ulp")
    assert reached(ulp) == "**4.50 ulp (≤ 4 ulp) missed by 12.5 %**"


def test_a_reason_that_repeats_is_one_line() -> None:
    made = record(*(timed("torch", True, classes, {ONE: 1.0}) for classes in (4096, 8192, 16384)))
    broken = "fails: ImportError: libtvm_ffi_testing.so: cannot open"
    for work in made["works"]:
        work["refused"] = [{"contender": "Quack", "reason": broken}]
    made["missing"] = [f"compiling ahead: bfloat16, {c} classes: {broken}" for c in (4096, 8192)]
    made["missing"].append("jax: JAX finds no GPU")
    said = page(made, "performance-gpu")
    assert said.count("ImportError") == 2  # what is missing stands above too
    first = "compiling ahead: bfloat16, 4096 classes"
    escaped = broken.replace("_", r"\_")
    assert f"| {first}; compiling ahead: bfloat16, 8192 classes: {escaped}; jax: JAX finds" in said
    assert f"- compiling ahead; Quack (5 times): {escaped}\n- jax: JAX finds no GPU\n" in said


def test_a_rehearsal_is_named_one() -> None:
    made = record(timed("torch", False, 4096, {"xloss torch": 1.0}))
    made["gpu"] = [{"rehearsal": True, "name": "none", "versions": {}}]
    assert WORDS["rehearsal"] in page(made, "performance-gpu")
