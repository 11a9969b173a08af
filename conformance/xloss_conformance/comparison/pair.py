"""One case, answered by two losses: do they differ, by how much, and which is right?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ..budget import budget, spacing
from ..judge import flushed, judge, parts
from ..model import PARTS, Array, Case, Differs, Exact, Subject, Verdict
from ..printable import first_line
from ..rounding import stored

STATUSES = ("agree", "by definition", "differ", "not offered")
RIGHT = {"AB": "both", "A": "A", "B": "B", "": "neither"}


@dataclass
class Pair:
    """One case, answered by both."""

    case: Case
    status: str  # one of STATUSES
    part: str = ""  # what differs: one of PARTS, "error" or "shape"
    right: str = ""  # who is, where they differ, and where they agree: "A", "B", "both", "neither"
    ulp: float | None = None  # the largest difference: in ulp, how many the two budgets allow, ...
    allowed: float | None = None
    apart: float | None = None  # ... and as a number
    at: tuple[int, ...] | None = None
    a: str = ""  # what came out there: of A, of B, and what is right
    b: str = ""
    exact: str = ""
    notes: dict[str, str] = field(default_factory=dict)  # "A", "B": why not offered, what differs
    calls: dict[str, list[str]] = field(default_factory=dict)  # where they differ: how to see it


def pair(a: Subject, b: Subject, case: Case) -> Pair:
    """Ask both one case.

    They differ where their results are further apart than both error budgets together, or where
    one gives a NaN, an infinity or an error and the other does not.
    """
    sides = {"A": Side(a, case), "B": Side(b, case)}
    refused = {letter: side.verdict.note for letter, side in sides.items() if side.refused}
    if refused:
        return Pair(case, "not offered", notes=refused)
    looked = [
        _errors(case, *sides.values()),
        *(_part(case, part, *sides.values()) for part in PARTS),
    ]
    apart = [one for one in looked if one is not None]
    beyond = [one for one in apart if one.status == "differ"]
    found = next(iter(beyond or apart), Pair(case, "agree"))
    asked = (found.part,) if found.part else PARTS
    found.right = RIGHT["".join(k for k, s in sides.items() if not any(map(s.wrong, asked)))]
    found.notes = {letter: side.verdict.note for letter, side in sides.items() if side.verdict.note}
    if found.part == "error" and found.right == "both":
        raises = next(letter for letter, side in sides.items() if side.error is not None)
        found.notes[raises] = "a label out of range raises; in the other its row is NaN"
        found.status = "by definition"
    if found.status == "differ":
        found.calls = {"A": a.snippet(case), "B": b.snippet(case)}
    return found


class Numbers(NamedTuple):
    """One part of an answer, what it should be, and its error budget."""

    got: Array
    want: Exact
    allowed: Array  # in units
    unit: Array
    flush: float


class Side:
    """One of the two, asked one case."""

    def __init__(self, subject: Subject, case: Case) -> None:
        self.subject = subject
        self.verdict: Verdict = judge(subject, case)
        self.refused = self.verdict.status == "refused"
        self.asked = case if self.refused else (subject.differs(case) or Differs(case, "")).case

    @property
    def error(self) -> Exception | None:
        assert self.verdict.outcome is not None
        return self.verdict.outcome.error

    def wrong(self, part: str) -> bool:
        """Whether a part is not what it should be by this one's own definition."""
        for finding in self.verdict.findings:
            if finding.rule in ("runs", "raises", part):
                return True
            if finding.rule in ("shape", "nothing") and finding.detail.startswith(f"the {part} "):
                return True
        return False

    def numbers(self, part: str) -> Numbers | None:
        """Return a part, where it is given and a definition says what it should be."""
        outcome, expected = self.verdict.outcome, self.verdict.expected
        if outcome is None or expected is None or (part != "value" and self.asked.value_only):
            return None
        traits = self.subject.traits
        allowed = budget(self.asked, stored(self.asked, traits.dtype), expected, traits)
        asked = PARTS.index(part)
        _, got, want, dtype, ulp, scale = parts(outcome, expected, allowed, traits)[asked]
        if got is None or want is None:
            return None
        flush = flushed(self.asked, traits)
        with np.errstate(all="ignore"):
            size = np.maximum(np.abs(want.hi), np.nan_to_num(scale, posinf=0.0))
        return Numbers(got, want, ulp, spacing(dtype, size), flush)


def _errors(case: Case, a: Side, b: Side) -> Pair | None:
    """Return how they differ if one raises and the other does not."""
    if (a.error is None) == (b.error is None):
        return None
    shown = [first_line(s.error) if s.error is not None else "a result" for s in (a, b)]
    exact = f"raises {case.error.__name__}" if case.error is not None else ""
    return Pair(case, "differ", "error", a=shown[0], b=shown[1], exact=exact)


def _part(case: Case, part: str, a: Side, b: Side) -> Pair | None:
    """Return how they differ in a part, or None.

    Where their definitions do, it is their errors that are compared: what is left is no definition.
    """
    one, two = a.numbers(part), b.numbers(part)
    if one is None or two is None:
        return None
    if one.got.shape != two.got.shape:
        shapes = [f"shape {numbers.got.shape}" for numbers in (one, two)]
        exact = f"shape {one.want.hi.shape}"
        return Pair(case, "differ", part, a=shapes[0], b=shapes[1], exact=exact)
    shape = one.got.shape
    unit = np.broadcast_to(np.maximum(one.unit, two.unit), shape)
    budgets = one.allowed * one.unit + two.allowed * two.unit
    allowed = np.broadcast_to(budgets, shape) / unit
    flush = one.flush + two.flush
    plain = _distance(one.got, two.got)
    apart = plain
    if one.want.hi.shape == shape == two.want.hi.shape:
        beside = _distance(_off(one), _off(two))
        apart = np.where(_distance(one.want.hi, two.want.hi) == 0, plain, beside)
    for status, size in (("differ", apart), ("by definition", plain)):
        with np.errstate(all="ignore"):
            ulp = size / unit
        beyond = (ulp > allowed) & (size > flush)
        if beyond.any():
            at = np.unravel_index(int(np.argmax(np.where(beyond, ulp / allowed, -1.0))), shape)
            wanted = dict.fromkeys(f"{n.want.hi[at]:.9g}" for n in (one, two))
            return Pair(
                case,
                status,
                part,
                "",
                float(ulp[at]),
                float(allowed[at]),
                float(size[at]),
                tuple(int(i) for i in at),
                f"{one.got[at]:.9g}",
                f"{two.got[at]:.9g}",
                " or ".join(wanted),
            )
    return None


def _distance(a: Array, b: Array) -> Array:
    """Return |a - b|: 0 for two NaN and two infinities, infinite if only one is none."""
    with np.errstate(all="ignore"):
        apart = np.abs(a - b)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    return np.where(same, 0.0, np.where(np.isfinite(apart), apart, np.inf))


def _off(numbers: Numbers) -> Array:
    """Return by how much a part is off, sign included."""
    got, want = numbers.got, numbers.want
    with np.errstate(all="ignore"):
        off = (got - want.hi) - want.lo
    return np.where(_distance(got, want.hi) == 0, 0.0, off)
