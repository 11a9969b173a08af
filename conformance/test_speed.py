"""The benchmarks' own rules: who is timed when, what a median is of, what meets a target."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xloss_conformance.model import Missing
from xloss_conformance.speed import pictures
from xloss_conformance.speed.contenders import XLOSS, NotOffered, agree, contender, function
from xloss_conformance.speed.figures import reached
from xloss_conformance.speed.markdown import markdown
from xloss_conformance.speed.plan import (
    ON_DEMAND,
    OPS,
    BadPlan,
    Plan,
    Step,
    available,
    chosen,
    steps,
    works,
)
from xloss_conformance.speed.processes import BenchFailed, results
from xloss_conformance.speed.publish import DOCUMENT, published
from xloss_conformance.speed.targets import judged, missed_by, verdict
from xloss_conformance.speed.work import Work, data

DOCS = Path(__file__).parents[1] / "docs"
Record = dict[str, Any]


# ---- Targets -------------------------------------------------------------------------------------


def work(op: str, shape: tuple[int, ...], gradient: bool, ms: dict[str, float]) -> Record:
    told = Work(op, shape, gradient, axis=1 if len(shape) == 4 else -1).told()
    runs = [
        {
            "contender": name,
            "engine": "cpu" if name.startswith("xloss") else "",
            "runs": 5,
            "median_ms": t,
            "min_ms": t,
            "q1_ms": t,
            "q3_ms": t,
            "gb_s": 1.0,
            "elements_s": 1e9 / t,
        }
        for name, t in ms.items()
        if name != "bound"
    ]
    bound = None
    if "bound" in ms:
        t = ms["bound"]
        bound = {
            "by": "torch.sum, 2 threads",
            "gb_s": 30.0,
            "runs": 5,
            "median_ms": t,
            "min_ms": t,
            "q1_ms": t,
            "q3_ms": t,
        }
    return {**told, "runs": runs, "bound": bound, "refused": []}


def record(*works: Record, memory: tuple[Record, ...] = ()) -> Record:
    made: Record = {
        "schema": 1,
        "xloss": "0.1.0",
        "date": "2026-11-22",
        "mode": "full",
        "threads": 2,
        "load": [0.1, 2.0],
        "command": "xloss bench --publish docs",
        "ops": ["forward"],
        "peers": ["torch"],
        "machine": {"python": "3.11", "platform": "Linux", "processor": "a CPU", "cores": 2},
        "versions": {"numpy": "2.4.6"},
        "seconds": 12.0,
        "missing": ["keras: not here"],
        "contenders": [
            {
                "name": "torch",
                "peer": True,
                "library": "torch",
                "version": "2.13",
                "call": "cross_entropy",
            }
        ],
        "works": list(works),
        "memory": list(memory),
        "by_rows": [],
        "by_threads": [],
        "by_classes": [w for w in works if w["op"] in ("forward", "gradient")],
        "first_call": [],
        "imports": [{"import_ms": 15.0}],
    }
    made["targets"] = judged(made)
    return made


def remembered(
    who: str, shape: tuple[int, ...], gradient: bool, share: float, op: str = "memory"
) -> Record:
    told = Work(op, shape, gradient).told()
    return {**told, "contender": who, "peak_bytes": int(share * told["nbytes"]), "reason": ""}


def told(made: Record) -> set[tuple[str, str, float, bool]]:
    return {(t["subject"], t["against"], round(t["wanted"], 3), t["met"]) for t in made["targets"]}


def test_a_ratio_is_met_from_the_wanted_on() -> None:
    ms = {"xloss numpy": 10.0, "xloss torch": 10.001, "torch": 40.0}
    made = record(work("forward", (2048, 32000), False, ms))
    assert told(made) == {("xloss numpy", "torch", 4.0, True), ("xloss torch", "torch", 4.0, False)}
    assert verdict(made) == "1 of 2 targets met"


@pytest.mark.parametrize(
    ("classes", "gradient", "wanted"),
    [
        (10, False, 5.0),
        (1000, False, 1.5),
        (32000, False, 4.0),
        (128256, False, 4.0),
        (10, True, 3.0),
        (1000, True, 4.0),
        (32000, True, 4.0),
    ],
)
def test_what_is_wanted_beside_torch_depends_on_the_classes(
    classes: int, gradient: bool, wanted: float
) -> None:
    op = "gradient" if gradient else "forward"
    made = record(work(op, (8, classes), gradient, {"xloss numpy": 1.0, "torch": 2.0}))
    assert told(made) == {("xloss numpy", "torch", wanted, wanted <= 2.0)}


def test_compilers_the_bound_and_images_have_targets_of_their_own() -> None:
    ms = {"xloss numpy": 10.0, "torch.compile": 10.9, "optax": 11.0, "bound": 5.0}
    assert told(record(work("forward", (2048, 32000), False, ms))) == {
        ("xloss numpy", "torch.compile", 1.1, False),
        ("xloss numpy", "optax", 1.1, True),
        ("xloss numpy", "bound", 0.5, True),
    }
    small = record(work("forward", (8192, 1000), False, {"xloss numpy": 10.0, "bound": 1.0}))
    assert told(small) == set()
    images = work("segmentation", (8, 21, 512, 512), True, {"xloss torch": 10.0, "torch": 19.0})
    assert told(record(images)) == {("xloss torch", "torch", 2.0, False)}


def test_a_small_call_is_judged_in_microseconds_and_by_its_value_alone() -> None:
    ms = {"xloss numpy": 0.06, "xloss torch": 0.101, "torch": 0.005}
    made = record(work("small", (32, 10), False, ms), work("small", (32, 10), True, ms))
    assert told(made) == {("xloss numpy", "", 60.0, True), ("xloss torch", "", 100.0, False)}
    assert [reached(t) for t in made["targets"]] == [
        "60.0 µs (≤ 60 µs) met",
        "101 µs (≤ 100 µs) missed by 1.0 %",
    ]


def test_memory_beyond_the_gradient_is_five_percent_of_the_logits() -> None:
    shape = (1000, 1000)
    made = record(
        memory=(
            remembered("xloss numpy", shape, False, 0.04),
            remembered("xloss numpy", shape, True, 1.04),
            remembered("xloss torch", shape, False, 0.06),
            remembered("xloss torch", shape, True, 1.06),
            remembered("torch", shape, False, 1.0),
        )
    )
    assert [t["met"] for t in made["targets"]] == [True, True, False, False]
    assert missed_by(made["targets"][2]) == pytest.approx(0.2)


def test_what_was_not_measured_is_not_judged() -> None:
    made = record(work("forward", (2048, 32000), False, {"torch": 40.0}))
    assert made["targets"] == []
    assert verdict(made) == "none of the targets was measured"


def test_a_target_just_missed_does_not_look_met() -> None:
    made = record(work("gradient", (9, 32000), True, {"xloss numpy": 1.0, "torch": 3.9999}))
    assert reached(made["targets"][0]) == "3.99× (≥ 4×) missed by under 0.1 %"


# ---- What takes part -----------------------------------------------------------------------------


def test_bytes_that_must_move_are_logits_labels_and_gradient() -> None:
    assert Work("forward", (4, 3)).moved == 4 * 3 * 4 + 4 * 8
    assert Work("gradient", (4, 3), True).moved == 2 * 4 * 3 * 4 + 4 * 8
    assert Work("x", (2, 21, 5, 5), dtype="bfloat16", axis=1).moved == 2 * 21 * 25 * 2 + 50 * 8


def test_the_timed_function_is_the_librarys_own() -> None:
    torch = pytest.importorskip("torch")
    assert function("torch") is torch.nn.functional.cross_entropy


@pytest.mark.parametrize("name", ["torch", "optax", "sklearn", "scipy", "keras", *XLOSS])
@pytest.mark.parametrize("gradient", [False, True])
def test_every_contender_computes_the_same(name: str, gradient: bool) -> None:
    asked = Work("forward", (6, 5), gradient)
    given = data(asked)
    z = given.x.astype(np.float64)
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    hot = np.eye(5)[given.y]
    right = (-np.log(p[hot == 1]).mean(), (p - hot) / 6 if gradient else None)
    try:
        call = contender(name).prepare(asked, given, 1)
    except Missing as missing:
        pytest.skip(str(missing))
    except NotOffered:
        assert (name, gradient) in {("scipy", True), ("xloss torch, closed form", False)}
        return
    with call.within():
        for _ in range(2):  # the second gradient is not added to the first
            call.before()
            got = call.answer(call.run())
    assert (got[1] is not None) == gradient
    agree(asked, got, right)


def test_another_answer_is_not_timed() -> None:
    asked = Work("forward", (6, 5))
    with pytest.raises(NotOffered, match="something else"):
        agree(asked, (1.01, None), (1.0, None))
    with pytest.raises(NotOffered, match="something else"):
        agree(asked, (float("nan"), None), (1.0, None))
    with pytest.raises(NotOffered, match="another gradient"):
        agree(asked, (1.0, np.ones(3)), (1.0, np.asarray([1.0, 1.0, 0.9])))


@pytest.mark.parametrize("plan", [Plan(ops=("fwd",)), Plan(peers=("jax",)), Plan(threads=10**6)])
def test_what_is_unknown_is_refused(plan: Plan) -> None:
    with pytest.raises(BadPlan, match=r"--\w+ \w+: "):
        steps(plan)


def test_a_plan_measures_what_is_asked() -> None:
    assert set(chosen(Plan())[0]) == set(OPS) - set(ON_DEMAND)
    assert chosen(Plan(quick=True, ops=("linear-large",)))[0] == ("linear-large",)
    assert chosen(Plan(quick=True, peers=("scipy",)))[1] == ("scipy",)
    shapes = [w.shape for w in works("forward", Plan())]
    assert shapes == [(65536, 10), (8192, 1000), (2048, 32000), (512, 128256)]
    (images, _) = works("segmentation", Plan())
    assert (images.shape, images.axis, images.classes) == ((8, 21, 512, 512), 1, 21)
    threads = [s.threads for s in steps(Plan(ops=("threads",)))]
    assert threads[0] == 1
    assert threads[-1] == available()


def test_a_step_that_fails_says_so_in_one_line() -> None:
    with pytest.raises(BenchFailed) as caught:
        list(results([Step("works", "no such task", {}, 1)]))
    assert str(caught.value).startswith("KeyError: 'no such task'\n")


# ---- Documents -----------------------------------------------------------------------------------


def made() -> Record:
    ms = {"xloss numpy": 10.0, "torch": 45.0, "torch.compile": 12.0, "bound": 5.0}
    return record(
        work("forward", (2048, 32000), False, ms),
        work("gradient", (2048, 32000), True, {**ms, "torch": 30.0}),
        memory=(
            remembered("xloss numpy", (20, 10), False, 0.01),
            remembered("xloss numpy", (20, 10), True, 1.01),
        ),
    )


def test_the_document_says_what_is_met_and_what_is_missed() -> None:
    text = markdown(made(), ("a.svg", "b.svg"))
    assert "generated, by `xloss bench --publish docs`; no row is edited by hand" in text
    assert "**6 of 7 targets met.**" in text
    assert (
        "| float32 (2048, 32000), value | xloss numpy | 4.50× (≥ 4×) met | 1.20× (≥ 1.1×) met | – "
        "| 0.50× (≥ 0.5×) met |" in text
    )
    assert "| **3.00× (≥ 4×) missed by 25.0 %** |" in text
    assert "![Throughput against classes: xloss and its peers](a.svg)" in text
    assert "| engines that ran | xloss numpy: cpu |" in text
    for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_pictures_are_the_same_for_the_same_record(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    names = pictures.draw(made(), tmp_path)
    assert names == (pictures.THROUGHPUT, pictures.MEMORY)
    first = [(tmp_path / name).read_bytes() for name in names]
    assert pictures.draw(made(), tmp_path) == names
    assert first == [(tmp_path / name).read_bytes() for name in names]
    for label in (b"PyTorch eager", b"xloss, NumPy", b"reading once", b"a CPU"):
        assert label in first[0]
    assert max(map(len, first)) < 60_000


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(pictures.NoMatplotlib, match="pip install matplotlib"):
        pictures.matplotlib()


def test_the_published_document_is_what_the_published_record_gives() -> None:
    kept = published(DOCS)
    names = (pictures.THROUGHPUT, pictures.MEMORY)
    again = "draw it again: xloss bench --publish docs --render"
    assert (DOCS / DOCUMENT).read_text("utf-8") == markdown(kept, names), again
    assert judged(kept) == kept["targets"], again
    assert kept["mode"] == "full"
    assert all((DOCS / name).stat().st_size < 100_000 for name in names)
    assert json.loads(json.dumps(kept, allow_nan=False)) == kept
