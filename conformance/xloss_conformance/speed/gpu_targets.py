"""What xloss is meant to reach on a GPU, and whether a run reached it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .gpu import OP, WHO
from .gpu_check import BEYOND, allowed

Record = dict[str, Any]
Judged = tuple[Record, str, str, str, float, float, bool]
# Who is judged, by library and kind of call.
SUBJECTS = {
    ("torch", "forward"): ("xloss torch",),
    ("torch", "gradient"): ("xloss torch, closed form", "xloss torch"),
    ("torch", "host"): ("xloss torch",),
    ("cupy", "forward"): ("xloss cupy",),
    ("cupy", "gradient"): ("xloss cupy",),
    ("cupy", "host"): ("xloss cupy",),
}
ONE_LAUNCH = ("xloss torch, closed form", "xloss cupy")  # value and gradient read the logits once
RATIOS = {"torch": 2.0, "torch.compile": 1.15, "cupy by hand": 4.0}
FORWARD, FORWARD_FEW, FEW = 0.85, 0.70, 4096  # of the copy's speed; with fewer classes
GRADIENT = 0.80
HOST = 25.0  # microseconds
COPY, QUACK = "copy", "Quack"
# Bytes a second by the data sheet: of a GPU whose name begins so.
PEAKS = {"NVIDIA H200": 4.8e12, "NVIDIA H100 80GB HBM3": 3.35e12}
# Quack's own figures, bfloat16 on an H100: logits read once and their gradient written once.
QUACK_PEAK = 3.35e12
QUACK_SPEEDS = {
    1024: 1.902e12, 4096: 2.692e12, 16384: 3.061e12, 32768: 3.021e12, 65536: 3.182e12,
    131072: 3.163e12, 262144: 3.034e12,
}  # fmt: skip


def judged(record: Record) -> Iterator[Judged]:
    """Give work, kind, subject, against, wanted, got, and whether it is met."""
    for entry in record.get("checks", ()):
        yield from _exact(entry)
    facts = (record.get("gpu") or [{"name": ""}])[0]
    for work in record["works"]:
        if work["op"] == OP:
            yield from _speed(work, peak(str(facts["name"])))


def peak(name: str) -> float | None:
    """Return the bytes a second that a GPU's data sheet states, if it is known here."""
    return next((speed for begin, speed in PEAKS.items() if name.startswith(begin)), None)


def _exact(entry: Record) -> Iterator[Judged]:
    for one in entry["of"]:
        for what in ("value", "gradient"):
            got = one[f"{what}_ulp"]
            if got is not None:
                wanted = allowed(entry["dtype"], what == "gradient")
                yield entry, "ulp", one["contender"], what, wanted, got, got <= wanted


def _speed(work: Record, peak: float | None) -> Iterator[Judged]:
    runs = {run["contender"]: run for run in work["runs"]}
    for subject in SUBJECTS.get((work["library"], work["kind"]), ()):
        run = runs.get(subject)
        if work["kind"] == "host":
            got = run["median_ms"] * 1e3 if run else BEYOND
            yield work, "microseconds", subject, "", HOST, got, got < HOST
            continue
        if work["bound"] and (not work["gradient"] or subject in ONE_LAUNCH):
            wanted = GRADIENT
            if not work["gradient"]:
                wanted = FORWARD if work["classes"] >= FEW else FORWARD_FEW
            # Who could not be timed has reached nothing.
            got = run["gb_s"] / work["bound"]["gb_s"] if run else 0.0
            yield work, "reach", subject, COPY, wanted, got, got >= wanted
        for against in WHO[work["library"]]:
            if against in RATIOS and against in runs:
                got = runs[against]["median_ms"] / run["median_ms"] if run else 0.0
                least = RATIOS[against]
                yield work, "ratio", subject, against, least, got, got >= least
        if subject == ONE_LAUNCH[0] and peak and work["dtype"] == "bfloat16":
            theirs = QUACK_SPEEDS.get(work["classes"])
            if theirs:
                got = run["gb_s"] * 1e9 / peak if run else 0.0
                wanted = theirs / QUACK_PEAK
                yield work, "reach", subject, QUACK, wanted, got, got > wanted
