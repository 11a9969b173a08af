"""One case, answered by two losses: do they differ, by how much, and which is right?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..budget import spacing
from ..judge import judge
from ..model import PARTS, Array, Case, Part, Subject, Verdict
from ..printable import first_line

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


def paired(a: Subject, b: Subject, case: Case) -> Pair:
    """Ask both one case.

    They differ where their results are further apart than both error budgets together, or where
    one gives a NaN, an infinity or an error and the other does not.
    """
    sides = {"A": judge(a, case), "B": judge(b, case)}
    notes = {letter: side.note for letter, side in sides.items() if side.note}
    refused = {letter: side.note for letter, side in sides.items() if side.status == "refused"}
    if refused:
        return Pair(case, "not offered", notes=refused)
    errors = {k: s.outcome.error for k, s in sides.items() if s.outcome and s.outcome.error}
    one, two = ({part.name: part for part in side.parts} for side in sides.values())
    both = [_part(case, one[part], two[part]) for part in PARTS if part in one and part in two]
    apart = [found for found in both if found is not None]
    if len(errors) == 1:
        apart.insert(0, _error(case, errors))
    beyond = [found for found in apart if found.status == "differ"]
    found = next(iter(beyond or apart), Pair(case, "agree"))
    found.notes = notes
    asked = (found.part,) if found.part else PARTS
    found.right = RIGHT["".join(k for k, s in sides.items() if not _wrong(s, asked))]
    if found.part == "error" and found.right == "both":
        found.notes[next(iter(errors))] = "a label out of range raises; in the other its row is NaN"
        found.status = "by definition"
    if found.status == "differ":
        found.calls = {"A": a.snippet(case), "B": b.snippet(case)}
    return found


def _wrong(verdict: Verdict, parts: Sequence[str]) -> bool:
    """Whether one of the parts is not what it should be by this one's own definition."""
    said = tuple(f"the {part} " for part in parts)
    return any(
        finding.rule in ("runs", "raises", *parts)
        or (finding.rule in ("shape", "nothing") and finding.detail.startswith(said))
        for finding in verdict.findings
    )


def _error(case: Case, errors: dict[str, Exception]) -> Pair:
    """Return how they differ if one raises and the other does not."""
    shown = {k: first_line(errors[k]) if k in errors else "a result" for k in "AB"}
    exact = f"raises {case.error.__name__}" if case.error is not None else ""
    return Pair(case, "differ", "error", a=shown["A"], b=shown["B"], exact=exact)


def _unit(part: Part) -> Array:
    """Return an ulp of each entry."""
    with np.errstate(all="ignore"):
        size = np.maximum(np.abs(part.want.hi), np.nan_to_num(part.allowed.scale, posinf=0.0))
    return spacing(part.dtype, size)


def _part(case: Case, one: Part, two: Part) -> Pair | None:
    """Return how they differ in a part, or None.

    Where their definitions do, it is their errors that are compared: what is left is no definition.
    """
    if one.got.shape != two.got.shape:
        shapes = [f"shape {part.got.shape}" for part in (one, two)]
        exact = f"shape {one.want.hi.shape}"
        return Pair(case, "differ", one.name, a=shapes[0], b=shapes[1], exact=exact)
    units = _unit(one), _unit(two)
    shape = one.got.shape
    unit = np.broadcast_to(np.maximum(*units), shape)
    budgets = one.allowed.ulp * units[0] + two.allowed.ulp * units[1]
    allowed = np.broadcast_to(budgets, shape) / unit
    plain = _distance(one.got, two.got)
    apart = plain
    if one.want.hi.shape == shape == two.want.hi.shape:
        beside = _distance(_off(one), _off(two))
        apart = np.where(_distance(one.want.hi, two.want.hi) == 0, plain, beside)
    for status, size in (("differ", apart), ("by definition", plain)):
        with np.errstate(all="ignore"):
            ulp = size / unit
        beyond = (ulp > allowed) & (size > one.flush + two.flush)
        if beyond.any():
            at = np.unravel_index(int(np.argmax(np.where(beyond, ulp / allowed, -1.0))), shape)
            found = Pair(case, status, one.name, at=tuple(int(i) for i in at))
            found.ulp, found.allowed, found.apart = (float(of[at]) for of in (ulp, allowed, size))
            found.a, found.b = (f"{part.got[at]:.9g}" for part in (one, two))
            found.exact = " or ".join(dict.fromkeys(f"{p.want.hi[at]:.9g}" for p in (one, two)))
            return found
    return None


def _distance(a: Array, b: Array) -> Array:
    """Return |a - b|: 0 for two NaN and two infinities, infinite if only one is none."""
    with np.errstate(all="ignore"):
        apart = np.abs(a - b)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    return np.where(same, 0.0, np.where(np.isfinite(apart), apart, np.inf))


def _off(part: Part) -> Array:
    """Return by how much a part is off, sign included."""
    got, want = part.got, part.want
    with np.errstate(all="ignore"):
        off = (got - want.hi) - want.lo
    return np.where(_distance(got, want.hi) == 0, 0.0, off)
