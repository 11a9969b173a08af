"""What xloss is meant to reach on two cores, and whether a run reached it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Record = dict[str, Any]
NUMPY, TORCH, JAX = "xloss numpy", "xloss torch", "xloss jax"
TRACED, TRACED_GENERIC = "xloss torch.compile", "xloss torch.compile, generic"
BOUND = "bound"  # reading the logits once; of a linear layer its matrix products
FLOAT32 = ("forward", "gradient")
LARGE = 32000  # classes from which on the bound is a target
ROOM = 0.05  # share of the logits that a call may hold beyond its inputs and gradients
LINEAR_ROOM = 256e6  # bytes, of linear_cross_entropy at its large shape
SMALL = {NUMPY: 60.0, TORCH: 100.0}  # microseconds of a value of (32, 10)
COMPILING = 300.0  # milliseconds that xloss may compile longer than twice as long as optax


@dataclass(frozen=True)
class Ratio:
    """At least so many times as fast as another, in these operations."""

    ops: tuple[str, ...]
    against: str
    wanted: float
    by_classes: dict[int, float] = field(default_factory=dict)
    least_classes: int = 0
    subjects: tuple[str, ...] = (NUMPY, TORCH)


ALL = (*FLOAT32, "bfloat16")
RATIOS = (
    Ratio(("forward",), "torch", 4.0, {10: 5.0, 1000: 1.5}),
    Ratio(("gradient",), "torch", 4.0, {10: 3.0}),
    Ratio(("segmentation",), "torch", 2.0),
    Ratio(("bfloat16",), "torch", 3.0, least_classes=128256, subjects=(TORCH,)),
    *(Ratio((*FLOAT32, "segmentation"), peer, 1.1) for peer in ("torch.compile", "optax")),
    Ratio(("forward",), BOUND, 0.5, least_classes=LARGE),
    *(
        Ratio(("linear", "linear-large"), against, wanted)
        for against, wanted in (
            (BOUND, 1 / 1.15),
            ("torch linear", 1.0),
            ("torch linear, chunked", 1.0),
        )
    ),
    # Under a tracer: as fast as the library's own loss under the same, and as xloss without it.
    Ratio(ALL, "optax", 1.0, {10: 1.1, 32000: 2.0, 128256: 2.0}, subjects=(JAX,)),
    Ratio(ALL, "optax", 0.8, subjects=("xloss jax, generic",)),
    Ratio(ALL, "torch.compile", 1.0, subjects=(TRACED,)),
    Ratio(ALL, TORCH, 1 / 1.15, subjects=(TRACED,)),
    Ratio(ALL, "torch.compile", 1 / 1.5, subjects=(TRACED_GENERIC,)),
    Ratio(ALL, "tensorflow", 1.0, subjects=("xloss tensorflow",)),
    Ratio(ALL, "tf.function", 1.0, subjects=("xloss tf.function",)),
)


def judged(record: Record) -> list[Record]:
    """Return every target that the run measured: what was wanted, what came, whether it is met."""
    return [*_ratios(record), *_small(record), *_memory(record), *_first_calls(record)]


def _ratios(record: Record) -> Iterator[Record]:
    for work in record["works"]:
        ms = {run["contender"]: run["median_ms"] for run in work["runs"]}
        if work["bound"] is not None:
            ms[BOUND] = work["bound"]["median_ms"]
        for ratio in RATIOS:
            if work["op"] not in ratio.ops or work["classes"] < ratio.least_classes:
                continue
            wanted = ratio.by_classes.get(work["classes"], ratio.wanted)
            for subject in ratio.subjects:
                if subject in ms and ratio.against in ms:
                    got = ms[ratio.against] / ms[subject]
                    yield told(work, "ratio", subject, ratio.against, wanted, got)


def _small(record: Record) -> Iterator[Record]:
    for work in record["works"]:
        for run in work["runs"]:
            wanted = SMALL.get(run["contender"])
            if work["op"] == "small" and not work["gradient"] and wanted is not None:
                who, got = run["contender"], run["median_ms"] * 1e3
                yield told(work, "microseconds", who, "", wanted, got)


def _memory(record: Record) -> Iterator[Record]:
    found = {
        (e["name"], e["contender"]): e for e in record["memory"] if e["peak_bytes"] is not None
    }
    for (name, who), entry in found.items():
        got = beyond(entry)
        if entry["op"] == "memory" and who in (NUMPY, TORCH):
            yield told(entry, "share", who, "", ROOM, got / entry["nbytes"])
        if entry["op"] == "linear-large" and who in (NUMPY, TORCH):
            yield told(entry, "bytes", who, "", LINEAR_ROOM, got)
        for subject, peer in ((NUMPY, "torch linear, chunked"), (TORCH, "torch linear, chunked")):
            if who == subject and (name, peer) in found:
                yield told(entry, "bytes", who, peer, beyond(found[name, peer]), got)
        if who == JAX and (name, "optax") in found:
            # Or the room that any call has, where optax itself holds next to nothing.
            wanted = max(beyond(found[name, "optax"]), ROOM * entry["nbytes"])
            yield told(entry, "bytes", who, "optax", wanted, got)


def _first_calls(record: Record) -> Iterator[Record]:
    found = {(e["contender"], e["caches"]): e for e in record["first_call"] if e["first_ms"]}
    for (who, caches), entry in found.items():
        if who == JAX and ("optax", caches) in found:
            wanted = 2 * found["optax", caches]["first_ms"] + COMPILING
            yield told(entry, "milliseconds", who, "optax", wanted, entry["first_ms"])


def beyond(entry: Record) -> int:
    """Return the bytes held beyond inputs and gradients."""
    return max(0, int(entry["peak_bytes"]) - (entry["nbytes"] if entry["gradient"] else 0))


def told(work: Record, kind: str, subject: str, against: str, wanted: float, got: float) -> Record:
    """Return a target as the record has it; of ratios and shares of a bound more is better."""
    met = got >= wanted if kind in ("ratio", "reach") else got <= wanted
    named = {"op": work["op"], "work": work["name"], "shape": work["shape"]}
    named |= {"gradient": work["gradient"], "kind": kind, "subject": subject, "against": against}
    return {**named, "wanted": wanted, "got": got, "met": bool(met)}


def missed_by(target: Record) -> float:
    """Return by what share of the wanted a target is missed; 0 where it is met."""
    off = abs(target["wanted"] - target["got"]) / target["wanted"]
    return 0.0 if target["met"] else float(off)


def verdict(record: Record) -> str:
    """Return in one sentence what came of the targets."""
    met = sum(t["met"] for t in record["targets"])
    total = len(record["targets"])
    if not total:
        return "none of the targets was measured"
    return f"{met} of {total} targets met" if met < total else f"all {total} targets met"
