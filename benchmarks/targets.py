"""Whether a run reached what targets.toml says that xloss is meant to reach."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import tables
from .right import BEYOND

Record = dict[str, Any]
AT_LEAST = ("ratio", "reach")  # of which more is better


def judged(record: Record, run: str) -> list[Record]:
    """Return every target that the run measured: what was wanted, what came, whether it is met."""
    found: list[Record] = []
    worst: dict[tuple[str, ...], Record] = {}
    for rule in tables.load("targets").get(run, ()):
        for target in _of(rule, record):
            key = target["subject"], target["against"], target.pop("dtype")
            if target["kind"] != "ulp":
                found.append(target)
            elif key not in worst or target["got"] > worst[key]["got"]:
                worst[key] = target
    return [*found, *worst.values()]


def chooses(rule: Record, work: Record) -> bool:
    """Tell whether a rule is about a call."""
    return (
        work["op"] in rule["ops"]
        and work["dtype"] in rule.get("dtypes", (work["dtype"],))
        and work["gradient"] == rule.get("gradient", work["gradient"])
        and work["classes"] >= rule.get("least_classes", 0)
        and rule.get("library", work.get("library")) == work.get("library")
    )


def _of(rule: Record, record: Record) -> Iterator[Record]:
    section = rule.get("section", "works")
    works = [work for work in record[section] if chooses(rule, work)]
    peers = rule.get("against", [""])
    if section == "works":
        for work in works:
            runs = {run["contender"]: run for run in work["runs"]}
            if work["bound"]:
                runs["bound"] = work["bound"]
            yield from _timed(rule, work, runs, peers)
        return
    alone = {(e["name"], e.get("caches"), e["contender"]): e for e in works}
    for (name, caches, who), entry in alone.items():
        for against in peers if who in rule["subjects"] else ():
            other = alone.get((name, caches, against))
            if against == "" or other is not None:
                target = _alone(rule, entry, other)
                if target is not None:
                    yield told(entry, rule["figure"], who, against, *target)


def _timed(
    rule: Record, work: Record, runs: dict[str, Record], peers: list[str]
) -> Iterator[Record]:
    """Give the targets of one call; of a GPU, who could not be timed has reached nothing."""
    wanted = rule.get("at", {}).get(str(work["classes"]), rule.get("wanted"))
    for subject, against in ((s, a) for s in rule["subjects"] for a in peers):
        run, figure, got = runs.get(subject), rule["figure"], None
        if wanted is None or not (run or "library" in rule):
            continue
        if figure in AT_LEAST and against in runs:
            got = runs[against]["median_ms"] / run["median_ms"] if run else 0.0
        elif figure == "microseconds":
            got = run["median_ms"] * 1e3 if run else BEYOND
        elif figure == "room" and run:
            got = run["peak_bytes"]
        elif figure == "ulp" and run:
            got = run[f"{against}_ulp"]
        if got is not None:
            kind = "bytes" if figure == "room" else figure
            yield told(work, kind, subject, against, wanted, float(got))


def _alone(rule: Record, entry: Record, other: Record | None) -> tuple[float, float] | None:
    """Return what was wanted of a call that had a process of its own, and what came, if it did."""
    if rule["section"] == "first_call":
        if not entry["first_ms"] or not (other and other["first_ms"]):
            return None
        return rule["times"] * other["first_ms"] + rule["wanted"], entry["first_ms"]
    if entry["peak_bytes"] is None or (other and other["peak_bytes"] is None):
        return None
    if rule["figure"] == "share":
        return rule["wanted"], beyond(entry) / entry["nbytes"]
    # Or the room that any call has, where the other holds next to nothing.
    room = rule.get("share", 0.0) * entry["nbytes"]
    return max(beyond(other), room) if other else rule["wanted"], beyond(entry)


def beyond(entry: Record) -> int:
    """Return the bytes held beyond inputs and gradients."""
    return max(0, int(entry["peak_bytes"]) - (entry["nbytes"] if entry["gradient"] else 0))


def told(work: Record, kind: str, subject: str, against: str, wanted: float, got: float) -> Record:
    """Return a target as the record has it; of ratios and shares of a bound more is better."""
    met = got >= wanted if kind in AT_LEAST else got <= wanted
    named = {"op": work["op"], "work": work["name"], "shape": work["shape"]}
    named |= {"gradient": work["gradient"], "kind": kind, "subject": subject, "against": against}
    return {**named, "dtype": work["dtype"], "wanted": wanted, "got": got, "met": bool(met)}


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
