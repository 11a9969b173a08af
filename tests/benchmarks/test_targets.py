"""What xloss is meant to reach: what meets a target, what misses it, and how that is told."""

import pytest

from benchmarks import tasks
from benchmarks.bounds import Bound
from benchmarks.figures import reached
from benchmarks.right import BEYOND
from benchmarks.targets import judged, verdict
from benchmarks.work import Work
from xloss_conformance.timing import Call

ONE, TWO = "xloss torch, closed form", "xloss torch"
NUMPY, C, T = "xloss numpy", "xloss torch.compile", "torch"


def timed(op, shape, ms, gradient=False, **more):
    """Return the record's entry of a work whose calls took so many milliseconds."""
    extra = {key: more.pop(key) for key in ("library", "peak_bytes") if key in more}
    work = Work(op, shape, gradient, **more)
    calls = {name: Call(lambda: 0, engine="cpu") for name in ms if name != "bound"}
    taken = {name: [t / 1e3] for name, t in ms.items()}
    bounds = {name: Bound(Call(lambda: 0), work.nbytes) for name in ms if name == "bound"}
    entry = tasks.timed(work, calls, taken, bounds)
    for run in entry["runs"]:
        run |= {"value_ulp": None, "gradient_ulp": None, **extra}
    return {**entry, **extra}


def on_gpu(op, ms, classes=4096, dtype="bfloat16", library="torch", **more):
    """Return the entry of a call on a GPU, of which only the classes count."""
    shape = (8, 21, 512, 512) if op == "segmentation" else (8, classes)
    axis = 1 if op == "segmentation" else -1
    return timed(op, shape, ms, dtype=dtype, axis=axis, library=library, **more)


def found(run, *entries, **sections):
    """Return whether each target is met, by its subject and what that is held against."""
    record = {"works": list(entries), "memory": [], "first_call": [], **sections}
    return {(t["subject"], t["against"]): t["met"] for t in judged(record, run)}


@pytest.mark.parametrize(
    ("op", "classes", "ms", "met", "missed"),
    [
        ("forward", 32000, {NUMPY: 10, TWO: 10.001, T: 40}, [(NUMPY, T)], (TWO, T)),
        (
            "forward",
            128256,
            {NUMPY: 9, "optax": 9.9, "bound": 4.4},
            [(NUMPY, "optax")],
            (NUMPY, "bound"),
        ),
        ("forward", 128256, {"xloss jax": 5, "optax": 9.9}, [], ("xloss jax", "optax")),
        ("bfloat16", 9, {C: 2.3, "torch.compile": 2.2, TWO: 2}, [(C, TWO)], (C, "torch.compile")),
        ("small", 10, {NUMPY: 0.06, TWO: 0.101, "torch": 0.005}, [(NUMPY, "")], (TWO, "")),
    ],
)
def test_times_on_the_host(op, classes, ms, met, missed):
    entry = timed(op, (32, classes), ms)
    assert found("host", entry) == {**dict.fromkeys(met, True), missed: False}


def test_memory_and_first_calls():
    def alone(op, who, gradient=False, **figures):
        return {**Work(op, (1000, 1000), gradient).told(), "contender": who, **figures}

    shares = [
        ("xloss numpy", False, 0.04),
        (TWO, True, 1.06),
        ("xloss jax", True, 1.5),
        ("optax", True, 1.4),
        ("torch", False, 1.0),
    ]
    memory = [alone("memory", who, g, peak_bytes=int(s * 4e6)) for who, g, s in shares]
    memory.append(alone("memory", TWO, peak_bytes=None))  # not to be had
    met = {("xloss numpy", ""): True, (TWO, ""): False, ("xloss jax", "optax"): False}
    assert found("host", memory=memory) == met
    ms = {"xloss jax": 501, "optax": 100}
    first = [alone("first-call", who, caches="empty", first_ms=t) for who, t in ms.items()]
    assert found("host", first_call=first) == {("xloss jax", "optax"): False}
    first[0]["first_ms"] = 500
    assert found("host", first_call=first) == {("xloss jax", "optax"): True}


@pytest.mark.parametrize(
    ("op", "against", "ms", "just", "more"),
    [
        # Of a copy's speed there is a share for each dtype, way and number of classes.
        ("forward", "bound", 1 / 0.85, TWO, {"classes": 1024}),
        ("gradient", "bound", 1 / 0.96, ONE, {"gradient": True}),
        ("gradient", "bound", 1 / 0.87, TWO, {"gradient": True, "classes": 65536}),
        ("forward", "bound", 1 / 1.02, TWO, {"classes": 32768, "dtype": "float32"}),
        ("segmentation", "bound", 1 / 0.8, TWO, {}),
        ("linear", "bound", 1.2, ONE, {"gradient": True, "features": 4096, "peak_bytes": 0}),
        ("gradient", "torch", 0.5, TWO, {"gradient": True}),
        ("gradient", "torch.compile", 0.5, ONE, {"gradient": True}),
        ("gradient", "Quack", 1.0, ONE, {"gradient": True}),
        ("forward", "cupy by hand", 0.2, "xloss cupy", {"dtype": "float16", "library": "cupy"}),
        ("host", "torch", 1.5, TWO, {"gradient": True, "dtype": "float32"}),
        ("host", "", 0.025, TWO, {"dtype": "float32"}),
    ],
)
def test_times_on_a_gpu(op, against, ms, just, more):
    """Held against one that takes a millisecond, this is the most that a call may take."""
    for off, met in ((0.999, True), (1.001, False)):
        other = {against: 1.0} if against else {}
        entry = on_gpu(op, {just: ms * off, **other}, **more)
        assert found("gpu", entry)[just, against] is met


def test_memory_on_a_gpu():
    for mib, met in ((768, True), (769, False)):
        linear = {"gradient": True, "features": 4096, "peak_bytes": mib * 2**20}
        assert found("gpu", on_gpu("linear", {ONE: 1.0}, **linear))[ONE, ""] is met


def test_who_could_not_be_timed_on_a_gpu_has_reached_nothing():
    entry = on_gpu("forward", {"torch": 1.0, "bound": 1.0})
    assert found("gpu", entry) == {(TWO, "bound"): False, (TWO, "torch"): False}
    assert found("gpu", on_gpu("host", {}, dtype="float32")) == {(TWO, ""): False}


@pytest.mark.parametrize(
    ("dtype", "value", "gradient", "met"),
    [
        ("float32", 4.0, 4.0, [True, True]),
        ("float32", 4.01, 4.01, [False, False]),
        ("bfloat16", 4.0, 1.0, [True, True]),
        ("float16", 4.0, 1.01, [True, False]),
        ("float32", BEYOND, None, [False]),
    ],
)
def test_the_worst_errors_are_targets(dtype, value, gradient, met):
    works = [on_gpu("forward", {TWO: 1.0, "torch": 9.0}, n, dtype) for n in (60, 70)]
    works[0]["runs"][0] |= {"value_ulp": value, "gradient_ulp": gradient}
    works[1]["runs"][0] |= {"value_ulp": 0.1}
    works[1]["runs"][1] |= {"value_ulp": 1e6}  # a peer's
    said = found("gpu", *works)
    assert [said[TWO, what] for what in ("value", "gradient") if (TWO, what) in said] == met


@pytest.mark.parametrize(
    ("kind", "wanted", "got", "said"),
    [
        ("ratio", 4.0, 4.0, "4.00× (≥ 4.00×) met"),
        ("ratio", 4.0, 3.9996, "**4.00× (≥ 4.00×) missed by under 0.1 %**"),
        ("reach", 0.9, 0.855, "**85.5 % (≥ 90.0 %) missed by 5.0 %**"),
        ("bytes", 256e6, 512e6, "**512 MB (≤ 256 MB) missed by 100 %**"),
    ],
)
def test_what_is_missed_is_told_as_missed(kind, wanted, got, said):
    target = {"kind": kind, "wanted": wanted, "got": got, "met": got == wanted}
    assert reached(target) == said
    of_two = "all 2 targets met" if target["met"] else "1 of 2 targets met"
    assert verdict({"targets": [target, {"met": True}]}) == of_two
