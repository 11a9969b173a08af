"""What xloss is meant to reach on a GPU, and whether a run reached it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..targets import told
from .check import BEYOND, allowed
from .plan import CLASSES

Record = dict[str, Any]
COPY, PRODUCTS = "copy", "the products alone"
ONE, TWO = "xloss torch, closed form", "xloss torch"
# Shares of a copy's speed, by dtype and way, for each of plan.CLASSES; bytes are those of logits
# read once and a gradient written once, whichever way a call goes.
SHARES: dict[tuple[str, str, str], tuple[float, ...]] = {
    ("bfloat16", "gradient", ONE): (0.93, 0.96, 0.95, 0.95, 0.90, 0.88, 0.85),
    ("bfloat16", "gradient", TWO): (0.90, 0.92, 0.92, 0.92, 0.87, 0.85, 0.82),
    ("bfloat16", "forward", TWO): (0.85, 0.92, 0.92, 0.92, 0.90, 0.88, 0.86),
    ("float32", "gradient", ONE): (0.96, 0.96, 0.95, 0.95, 0.92, 0.90, 0.88),
    ("float32", "forward", TWO): (1.04, 1.00, 1.04, 1.02, 1.00, 1.00, 0.95),
}
SEGMENTATION = 0.80  # of a copy's speed
# How many times as fast as another.
RATIOS: dict[tuple[str, str], tuple[tuple[str, float], ...]] = {
    ("gradient", ONE): (("torch", 2.0), ("torch.compile", 2.0), ("Quack", 1.0)),
    ("gradient", TWO): (("torch", 2.0), ("torch.compile", 2.0), ("Quack, autograd", 1.0)),
    ("forward", TWO): (("torch", 2.0), ("torch.compile", 2.0)),
    ("gradient", "xloss cupy"): (("cupy by hand", 5.0),),
    ("forward", "xloss cupy"): (("cupy by hand", 5.0),),
    ("linear", ONE): (("torch", 1.0), ("Liger", 1.0)),
    ("host gradient", TWO): (("torch", 1 / 1.5),),
}
LINEAR = 1 / 1.2  # of the speed of the three products alone
LINEAR_ROOM = 768 * 2.0**20  # bytes beyond inputs and gradients
HOST = 25.0  # microseconds of a call without a gradient


def judged(record: Record) -> list[Record]:
    """Return every target that the run measured: what was wanted, what came, whether it is met."""
    speeds = [target for work in record["works"] for target in _speed(work)]
    return speeds + list(_exact(record["works"]))


def subjects(work: Record) -> tuple[str, ...]:
    """Return who of xloss is judged in a call."""
    if work["library"] == "cupy":
        return ("xloss cupy",)
    if work["library"] != "torch":
        return ()
    if work["kind"] in ("host", "linear"):
        return (ONE,) if work["kind"] == "linear" else (TWO,)
    return (ONE, TWO) if work["gradient"] else (TWO,)


def share(work: Record, subject: str) -> float | None:
    """Return the share of a copy's speed that is wanted, if one is."""
    if work["kind"] == "segmentation":
        return SEGMENTATION if subject == (ONE if work["gradient"] else TWO) else None
    of = SHARES.get((work["dtype"], work["kind"], subject))
    if of is None or work["classes"] not in CLASSES:
        return None
    return of[CLASSES.index(work["classes"])]


def _speed(work: Record) -> Iterator[Record]:
    runs = {run["contender"]: run for run in work["runs"]}
    bound, kind = work["bound"], work["kind"]
    for subject in subjects(work):
        # Who could not be timed has reached nothing.
        run = runs.get(subject)
        ms = run["median_ms"] if run else float("inf")
        if kind == "host" and not work["gradient"] and subject == TWO:
            got = ms * 1e3 if run else BEYOND
            yield told(work, "microseconds", subject, "", HOST, got)
        wanted = share(work, subject)
        if bound and wanted is not None:
            got = bound["median_ms"] / ms
            yield told(work, "reach", subject, COPY, wanted, got)
        if bound and kind == "linear":
            got = bound["median_ms"] / ms
            yield told(work, "ratio", subject, PRODUCTS, LINEAR, got)
            if run and run["peak_bytes"] is not None:
                room = float(run["peak_bytes"])
                yield told(work, "bytes", subject, "", LINEAR_ROOM, room)
        key = "host gradient" if kind == "host" and work["gradient"] else kind
        for against, least in RATIOS.get((key, subject), ()):
            if against in runs:
                got = runs[against]["median_ms"] / ms
                yield told(work, "ratio", subject, against, least, got)


def _exact(works: list[Record]) -> Iterator[Record]:
    """Give the worst errors of each way through xloss, of each dtype."""
    worst: dict[tuple[str, str, str], tuple[float, Record]] = {}
    for work in works:
        for run in work["runs"]:
            for what in ("value", "gradient"):
                got = run[f"{what}_ulp"]
                key = (run["contender"], work["dtype"], what)
                if got is None or run["contender"] not in (ONE, TWO, "xloss cupy"):
                    continue
                if key not in worst or got > worst[key][0]:
                    worst[key] = got, work
    for (subject, dtype, what), (got, work) in worst.items():
        wanted = allowed(dtype, what == "gradient")
        yield told(work, "ulp", subject, what, wanted, got)
