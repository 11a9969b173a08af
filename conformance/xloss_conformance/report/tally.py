"""What the cells of a record come to: counts, worst errors, and one verdict."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from math import inf, isnan
from typing import Any

from .pack import short

Record = dict[str, Any]
Cell = dict[str, Any]
KINDS = {"candidate": "candidates", "peer": "the peers", "xloss": "xloss"}  # as they are told


@dataclass
class Tally:
    """What some cells come to."""

    counts: Counter[str] = field(default_factory=Counter)  # by status
    value: float | None = None  # the worst errors in ulp, where there is any
    grad: float | None = None

    def add(self, cell: Cell) -> None:
        self.counts[cell["status"]] += 1
        self.value = _worst(self.value, cell["value_ulp"])
        self.grad = _worst(self.grad, cell["grad_ulp"])

    @property
    def judged(self) -> int:
        return self.counts.total() - self.counts["refused"]


def _worst(known: float | None, ulp: Any) -> float | None:
    """Return the larger error, to as many digits as the page keeps, so that all say the same."""
    if ulp is None:
        return known
    kept = float(short(ulp))
    return max(known or 0.0, inf if isnan(kept) else kept)


def tallies(cells: Iterable[Cell], place: Callable[[Cell], Hashable]) -> dict[Any, Tally]:
    """Return what the cells of each place come to; where there is no cell, to nothing."""
    found: dict[Any, Tally] = defaultdict(Tally)
    for cell in cells:
        found[place(cell)].add(cell)
    return found


def by_kind(record: Record) -> dict[str, Tally]:
    """Return what the cells of each kind of subject come to, in the order of telling."""
    kinds = {subject["name"]: subject["kind"] for subject in record["subjects"]}
    found = tallies(record["cells"], lambda cell: kinds[cell["subject"]])
    return {kind: found[kind] for kind in KINDS if kind in found}


def verdict(record: Record) -> str:
    """Return the verdict in one line."""
    said = []
    for kind, of in by_kind(record).items():
        names = {s["name"] for s in record["subjects"] if s["kind"] == kind}
        who = names.pop() if kind == "candidate" and len(names) == 1 else KINDS[kind]
        s = "" if kind != "xloss" and who == KINDS[kind] else "s"
        if not of.judged:
            said.append(f"{who} {'was' if s else 'were'} asked nothing")
        elif of.counts["fail"]:
            said.append(f"{who} fail{s} {of.counts['fail']:,} of {of.judged:,} calls")
        elif of.counts["declared"]:
            passed = f"{of.counts['pass']:,} of {of.judged:,} calls"
            said.append(f"{who} pass{'es' * bool(s)} {passed}, the others as declared")
        else:
            said.append(f"{who} pass{'es' * bool(s)} all {of.judged:,} calls")
    stale = len(record["deviations"]["stale"])
    if stale:
        said.append(f"{stale} stale deviation{'s' * (stale > 1)}")
    line = "; ".join(said) or "nothing was judged"
    return line[0].upper() + line[1:] if line.startswith("the ") else line
