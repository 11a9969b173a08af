"""Whether a run reached what targets.toml says that xloss is meant to reach."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
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
    calls: dict[Any, tuple[Record, dict[str, Record]]] = {}  # and the runs of each
    for work in record[rule.get("section", "works")]:
        if not chooses(rule, work):
            continue
        if "runs" in work:
            runs = {run["contender"]: run for run in work["runs"]}
            runs |= {"bound": work["bound"]} if work["bound"] else {}
            calls[id(work)] = work, runs
        else:  # each contender had a process of its own
            key = work["name"], work.get("caches")
            calls.setdefault(key, (work, {}))[1][work["contender"]] = work
    for work, runs in calls.values():
        for subject, against in product(rule["subjects"], rule.get("against", [""])):
            run, other = runs.get(subject), runs.get(against)
            found = _figure(rule, work, run, other, against) if run or "library" in rule else None
            if found is not None and None not in found:
                kind = "bytes" if rule["figure"] == "room" else rule["figure"]
                yield told(work, kind, subject, against, *map(float, found))


def _figure(
    rule: Record, work: Record, run: Record | None, other: Record | None, against: str
) -> tuple[Any, Any] | None:
    """Return what was wanted and what came; of a GPU, who could not be timed reached nothing."""
    figure = rule["figure"]
    wanted = rule.get("at", {}).get(str(work["classes"]), rule.get("wanted"))
    if figure in AT_LEAST and other:
        return wanted, other["median_ms"] / run["median_ms"] if run else 0.0
    if figure == "microseconds":
        return wanted, run["median_ms"] * 1e3 if run else BEYOND
    if run is None or (other is None and against not in ("", "value", "gradient")):
        return None
    if figure == "ulp":
        return wanted, run[f"{against}_ulp"]
    if figure == "room":
        return wanted, run["peak_bytes"]
    if figure == "milliseconds":
        theirs = other["first_ms"] if other else None
        return theirs and rule["times"] * theirs + wanted, run["first_ms"]
    if run["peak_bytes"] is None or (other and other["peak_bytes"] is None):
        return None
    if figure == "share":
        return wanted, beyond(run) / run["nbytes"]
    # Or the room that any call has, where the other holds next to nothing.
    room = rule.get("share", 0.0) * run["nbytes"]
    return max(beyond(other), room) if other else wanted, beyond(run)


def beyond(entry: Record) -> int:
    """Return the bytes held beyond inputs and gradients."""
    return max(0, int(entry["peak_bytes"]) - (entry["nbytes"] if entry["gradient"] else 0))


def told(work: Record, kind: str, subject: str, against: str, wanted: float, got: float) -> Record:
    """Return a target as the record has it; of ratios and shares of a bound more is better."""
    met = got >= wanted if kind in AT_LEAST else got <= wanted
    named = {"op": work["op"], "work": work["name"], "shape": work["shape"]}
    named |= {"gradient": work["gradient"], "kind": kind, "subject": subject, "against": against}
    return {**named, "dtype": work["dtype"], "wanted": wanted, "got": got, "met": bool(met)}


def verdict(record: Record) -> str:
    """Return in one sentence what came of the targets."""
    met = sum(t["met"] for t in record["targets"])
    total = len(record["targets"])
    if not total:
        return "none of the targets was measured"
    return f"{met} of {total} targets met" if met < total else f"all {total} targets met"
