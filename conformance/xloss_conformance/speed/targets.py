"""What xloss is meant to reach on two cores, and whether a run reached it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from . import gpu_targets
from .contenders import AT_SCALE
from .cuts import OPS as SCALE_OPS

Record = dict[str, Any]
ON_NUMPY, ON_TORCH = "xloss numpy", "xloss torch"
SUBJECTS = (ON_NUMPY, ON_TORCH)
BOUND = "bound"  # reading the logits once; of a linear layer its matrix products
LARGE = 32000  # classes from which on the bound is a target
ROOM = 0.05  # share of the logits that a call may hold beyond its inputs and gradients
LINEAR_ROOM = 256e6  # bytes, of linear_cross_entropy at its large shape


@dataclass(frozen=True)
class Ratio:
    """At least so many times as fast as another, for so many classes."""

    op: str
    against: str
    wanted: float
    by_classes: dict[int, float] = field(default_factory=dict)
    least_classes: int = 0
    values_only: bool = False
    subjects: tuple[str, ...] = SUBJECTS

    def of(self, work: Record) -> float | None:
        """Return what is wanted of a work, if anything."""
        if work["op"] != self.op or work["classes"] < self.least_classes:
            return None
        if self.values_only and work["gradient"]:
            return None
        return self.by_classes.get(work["classes"], self.wanted)


RATIOS = (
    Ratio("forward", "torch", 4.0, {10: 5.0, 1000: 1.5}),
    Ratio("gradient", "torch", 4.0, {10: 3.0}),
    Ratio("segmentation", "torch", 2.0),
    Ratio("bfloat16", "torch", 3.0, subjects=(ON_TORCH,)),
    *(
        Ratio(op, against, 1.1)
        for op in ("forward", "gradient", "segmentation")
        for against in ("torch.compile", "optax")
    ),
    Ratio("forward", BOUND, 0.5, least_classes=LARGE),
    *(
        Ratio(op, against, wanted)
        for op in ("linear", "linear-large")
        for against, wanted in (
            (BOUND, 1 / 1.15),
            ("torch linear", 1.0),
            ("torch linear, chunked", 1.0),
        )
    ),
    *(
        Ratio(op, against, 1.0, subjects=(ours,))
        for op, (_, (ours, *peers)) in ((op, AT_SCALE[key]) for op, key in SCALE_OPS.items())
        for against in peers
    ),
)
SMALL = {ON_NUMPY: 60.0, ON_TORCH: 100.0}  # microseconds of a value of (32, 10)


def judged(record: Record) -> list[Record]:
    """Return every target that the run measured: what was wanted, what came, whether it is met."""
    memory = [*_memory(record), *_linear_memory(record), *_scale_memory(record)]
    on_gpu = [_told(*one) for one in gpu_targets.judged(record)]
    return [*_ratios(record), *_small(record), *memory, *on_gpu]


def _ratios(record: Record) -> Iterator[Record]:
    for work in record["works"]:
        ms = {run["contender"]: run["median_ms"] for run in work["runs"]}
        if work["bound"] is not None:
            ms[BOUND] = work["bound"]["median_ms"]
        for ratio in RATIOS:
            wanted = ratio.of(work)
            for subject in ratio.subjects:
                if wanted is not None and subject in ms and ratio.against in ms:
                    got = ms[ratio.against] / ms[subject]
                    yield _told(work, "ratio", subject, ratio.against, wanted, got, got >= wanted)


def _small(record: Record) -> Iterator[Record]:
    for work in record["works"]:
        if work["op"] != "small" or work["gradient"]:
            continue
        for run in work["runs"]:
            wanted = SMALL.get(run["contender"])
            if wanted is not None:
                got = run["median_ms"] * 1e3
                yield _told(work, "microseconds", run["contender"], "", wanted, got, got <= wanted)


def _memory(record: Record) -> Iterator[Record]:
    for entry in record["memory"]:
        if entry["op"] != "memory" or entry["contender"] not in SUBJECTS:
            continue
        if entry["peak_bytes"] is not None:
            got = beyond(entry) / entry["nbytes"]
            yield _told(entry, "share", entry["contender"], "", ROOM, got, got <= ROOM)


def _linear_memory(record: Record) -> Iterator[Record]:
    for entry in record["memory"]:
        if not entry["features"] or entry["peak_bytes"] is None:
            continue
        who, got = entry["contender"], beyond(entry)
        if who not in SUBJECTS:
            continue
        if entry["op"] == "linear-large":
            yield _told(entry, "bytes", who, "", LINEAR_ROOM, got, got <= LINEAR_ROOM)
        for other in record["memory"]:
            chunked = other["contender"] == "torch linear, chunked"
            if chunked and other["name"] == entry["name"] and other["peak_bytes"] is not None:
                wanted = beyond(other)
                yield _told(entry, "bytes", who, other["contender"], wanted, got, got <= wanted)


def _scale_memory(record: Record) -> Iterator[Record]:
    """At most what each peer holds for the same call, or the room that any call has."""
    found = {(e["name"], e["contender"]): e for e in record["memory"] if e["op"] in SCALE_OPS}
    for (name, who), entry in found.items():
        ours, *peers = AT_SCALE[SCALE_OPS[entry["op"]]][1]
        for peer in peers if who == ours else ():
            other = found.get((name, peer))
            if other and entry["peak_bytes"] is not None and other["peak_bytes"] is not None:
                got, wanted = beyond(entry), max(beyond(other), ROOM * entry["nbytes"])
                yield _told(entry, "bytes", who, peer, wanted, got, got <= wanted)


def beyond(entry: Record) -> int:
    """Return the bytes held beyond inputs and gradients."""
    return max(0, int(entry["peak_bytes"]) - (entry["nbytes"] if entry["gradient"] else 0))


def _told(
    work: Record, kind: str, subject: str, against: str, wanted: float, got: float, met: bool
) -> Record:
    return {
        "op": work["op"],
        "work": work["name"],
        "shape": work["shape"],
        "gradient": work["gradient"],
        "kind": kind,
        "subject": subject,
        "against": against,
        "wanted": wanted,
        "got": got,
        "met": met,
    }


def missed_by(target: Record) -> float:
    """Return by what share of the wanted a target is missed; 0 where it is met."""
    if target["met"]:
        return 0.0
    off = (
        target["wanted"] - target["got"]
        if target["kind"] in ("ratio", "reach")
        else (target["got"] - target["wanted"])
    )
    return float(off / target["wanted"])


def verdict(record: Record) -> str:
    """Return in one sentence what came of the targets."""
    met = sum(t["met"] for t in record["targets"])
    total = len(record["targets"])
    if not total:
        return "none of the targets was measured"
    return f"{met} of {total} targets met" if met < total else f"all {total} targets met"
