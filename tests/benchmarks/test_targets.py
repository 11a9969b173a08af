"""What xloss is meant to reach: what is held against which limit, and what meets it."""

import pytest

from benchmarks.__main__ import NAMES
from benchmarks.record import read
from benchmarks.targets import judged
from benchmarks.work import Work
from places import ROOT

ONE, TWO = "xloss torch, closed form", "xloss torch"
NUMPY, JAX = "xloss numpy", "xloss jax"
RECORDS = {run: read(ROOT / "docs" / f"{NAMES[run]}.json") for run in ("host", "gpu")}


def by_key(targets):
    """Of errors only the worst of each dtype is told, whichever work it is of."""

    def work(target):
        name = target["work"]
        return name.partition(" ")[0] if target["kind"] == "ulp" else name

    return {(t["kind"], work(t), t["subject"], t["against"]): t for t in targets}


def found(run, **sections):
    """Return whether each target is met, by its subject and what that is held against."""
    record = {"works": [], "memory": [], "first_call": [], **sections}
    return {(t["subject"], t["against"]): t["met"] for t in judged(record, run)}


@pytest.mark.parametrize("run", RECORDS)
def test_the_committed_records_are_judged_as_they_were(run):
    """By their figures: a limit may have changed since, and rules have come."""
    then, now = by_key(RECORDS[run]["targets"]), by_key(judged(RECORDS[run], run))
    both = then.keys() & now.keys()
    assert len(both) > 80
    for key in both:
        got, wanted = now[key]["got"], now[key]["wanted"]
        assert got == then[key]["got"]
        met = got >= wanted if key[0] in ("ratio", "reach") else got <= wanted
        assert now[key]["met"] is met


@pytest.mark.parametrize(
    ("run", "op", "classes", "subject", "against", "wanted"),
    [
        ("host", "forward", 10, NUMPY, "torch", [5.0]),
        ("host", "forward", 32000, NUMPY, "torch", [4.0]),
        ("host", "forward", 10, NUMPY, "bound", []),
        ("host", "forward", 128256, NUMPY, "bound", [0.5]),
        ("host", "gradient", 128256, JAX, "optax", [2.0]),
        ("host", "small", 10, TWO, "", [100.0]),
        # Of a copy's speed there is a share for each dtype, way and number of classes.
        ("gpu", "forward", 1024, TWO, "bound", [0.85, 1.04]),
        ("gpu", "gradient", 65536, TWO, "bound", [0.87]),
        ("gpu", "gradient", 4096, ONE, "Quack", [1.0]),
        ("gpu", "linear", 131072, ONE, "bound", [1 / 1.2]),
        ("gpu", "linear", 131072, ONE, "", [768 * 2**20]),
    ],
)
def test_the_limits(run, op, classes, subject, against, wanted):
    asked = (op, subject, against, classes)
    assert wanted == sorted(
        t["wanted"]
        for t in judged(RECORDS[run], run)
        if (t["op"], t["subject"], t["against"], t["shape"][-1]) == asked
    )


def test_memory_and_first_calls():
    def alone(op, who, gradient=False, **figures):
        return {**Work(op, (1000, 1000), gradient).told(), "contender": who, **figures}

    shares = [(NUMPY, False, 0.04), (TWO, True, 1.06), (JAX, True, 1.04), ("optax", True, 1)]
    memory = [alone("memory", who, g, peak_bytes=int(s * 4e6)) for who, g, s in shares]
    memory.append(alone("memory", TWO, peak_bytes=None))  # not to be had
    met = {(NUMPY, ""): True, (TWO, ""): False, (JAX, "optax"): True}  # which has 5 %
    assert found("host", memory=memory) == met
    for ms, met in ((500, True), (501, False)):
        took = {JAX: ms, "optax": 100}
        first = [alone("first-call", who, caches="empty", first_ms=t) for who, t in took.items()]
        assert found("host", first_call=first) == {(JAX, "optax"): met}


def test_who_could_not_be_timed_on_a_gpu_has_reached_nothing():
    works = [w for w in RECORDS["gpu"]["works"] if w["library"] == "torch" and not w["gradient"]]
    met = {"forward": {(TWO, "bound"): False, (TWO, "torch"): False}, "host": {(TWO, ""): False}}
    for op, missed in met.items():
        work = next(w for w in works if w["op"] == op)
        peers = [run for run in work["runs"] if run["contender"] == "torch"]
        assert found("gpu", works=[{**work, "runs": peers}]) == missed
