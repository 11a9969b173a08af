"""Two losses on the same cases: where they first differ, by how much, and which is right."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from .budget import budget, spacing
from .candidates import Candidate, load
from .case import BINARY, Array, Case, stored
from .checking import chosen, dtypes, label, styled
from .conventions import Convention
from .expected import Exact
from .formats import accumulated
from .homes import HOMES, home
from .peers import PEERS, peers
from .subject import FLUSHED, Differs, Subject
from .subjects import Xloss
from .suite import Told, told
from .verdict import Verdict, judge, said

# What may differ, in the order in which it is looked for.
PARTS = ("value", "gradient", "targets gradient")
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


@dataclass
class Comparison:
    """Every case, answered by both, in the catalogue's order."""

    a: Told
    b: Told
    pairs: list[Pair] = field(default_factory=list)

    @property
    def differences(self) -> list[Pair]:
        """The cases on which they differ, those left out in which their definitions do."""
        return [pair for pair in self.pairs if pair.status == "differ"]

    @property
    def first(self) -> Pair | None:
        """The first of them."""
        return next(iter(self.differences), None)

    @property
    def compared(self) -> int:
        """How many cases both offer."""
        return sum(pair.status != "not offered" for pair in self.pairs)

    @property
    def ok(self) -> bool:
        """Whether they agree, but for their definitions."""
        return not self.differences

    def __str__(self) -> str:
        from .report.versus import text

        return text(self)


def compare(
    a: str | Callable[..., Any],
    b: str | Callable[..., Any],
    *,
    convention: str | Convention = "xloss",
    arrays: str | None = None,
    loss: str | None = None,
    dtype: str = "float32",
    families: Iterable[str] | None = None,
    quick: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Comparison:
    """Ask two losses the same cases.

    Parameters
    ----------
    a, b : str or callable
        A peer ("torch", "keras", "optax", "sklearn", "scipy"), xloss on NumPy or another library
        ("xloss", "xloss:jax"), "path/file.py:function" or "package.module:function", with
        "@convention" after it if it has its own; or a function.
    convention, arrays
        As in `check`, of functions which name none.
    loss : str, optional
        The loss to compare. Of two libraries all that both have are compared; a function is
        cross_entropy if nothing else is said.
    dtype, families, quick
        As in `check`.
    progress : callable
        Told how many cases are done, and of how many.

    Raises
    ------
    ValueError
        A name that is none; no case that both offer.
    Missing
        A library that is not here.
    """
    one, two = (
        subject(given, convention, arrays, loss or "cross_entropy", dtype) for given in (a, b)
    )
    if loss is None and (isinstance(one, Candidate) or isinstance(two, Candidate)):
        loss = "cross_entropy"
    cases = chosen(loss, families, quick)
    found = Comparison(told(one), told(two))
    for case in cases:
        found.pairs.append(pair(one, two, case))
        progress(len(found.pairs), len(cases))
    if not found.compared:
        raise ValueError(f"{found.a.name} and {found.b.name} have no case in common")
    return found


def subject(
    given: str | Callable[..., Any], convention: str | Convention, arrays: str | None,
    loss: str, dtype: str,
) -> Subject:  # fmt: skip
    """Return what a name or a function stands for."""
    (dtype,) = dtypes(dtype)
    if not isinstance(given, str):
        return Candidate(label(given), given, styled(convention, arrays), loss, dtype)
    first, _, rest = given.partition(":")
    if first == "xloss" and (not rest or rest in HOMES):
        made = Xloss(rest or "numpy", dtype)
        if dtype not in home(made.library).dtypes:
            raise ValueError(f"{given} has no {dtype}")
        return made
    if given in PEERS:
        found = peers(given, [dtype])
        if not found:
            raise ValueError(f"{given} has no {dtype}")
        return found[0]
    if not rest:
        raise ValueError(
            f"{given!r} is unknown; expected xloss, xloss:LIBRARY, {', '.join(PEERS)}, "
            "FILE.py:FUNCTION or MODULE:FUNCTION, with @CONVENTION after it if need be"
        )
    spec, _, own = given.partition("@")
    style = styled(own) if own else styled(convention, arrays)
    return load(spec, style, loss=loss, dtype=dtype)


def pair(a: Subject, b: Subject, case: Case) -> Pair:
    """Ask both one case.

    They differ where their results are further apart than both error budgets together, or where
    one gives a NaN, an infinity or an error and the other does not.
    """
    sides = {"A": Side(a, case), "B": Side(b, case)}
    refused = {letter: side.verdict.note for letter, side in sides.items() if side.refused}
    if refused:
        return Pair(case, "not offered", notes=refused)
    found = _errors(case, sides["A"], sides["B"])
    for part in PARTS[:1] if case.value_only else PARTS:
        found = found or _part(case, part, sides["A"], sides["B"])
    status, parts = ("differ", (found.part,)) if found else ("agree", PARTS)
    found = found or Pair(case, status)
    found.right = RIGHT["".join(k for k, s in sides.items() if not any(map(s.wrong, parts)))]
    found.notes = {letter: side.verdict.note for letter, side in sides.items() if side.verdict.note}
    if found.status == "agree":
        return found
    if found.part == "error" and found.right == "both":
        raises = next(letter for letter, side in sides.items() if side.error is not None)
        found.notes[raises] = "a label out of range raises; in the other its row is NaN"
    if found.right == "both" and found.notes:
        found.status = "by definition"
        return found
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
        """Return a part, where it is given and known."""
        outcome, expected = self.verdict.outcome, self.verdict.expected
        if outcome is None or expected is None:
            return None
        traits = self.subject.traits
        arguments = stored(self.asked, traits.dtype)
        allowed = budget(self.asked, arguments, expected, traits)
        got, want, ulp, scale, dtype = {
            "value": (
                outcome.value, expected.value, np.asarray(allowed.value), allowed.value_scale,
                accumulated(traits.dtype),
            ),
            "gradient": (
                outcome.grad, expected.grad, allowed.grad, allowed.grad_scale, traits.dtype
            ),
            "targets gradient": (
                outcome.grad_targets, expected.grad_targets, np.asarray(allowed.targets),
                allowed.targets_scale, traits.dtype,
            ),
        }[part]  # fmt: skip
        if got is None or want is None:
            return None
        classes = 1 if self.asked.loss in BINARY else arguments.x.shape[self.asked.axis]
        flush = classes * FLUSHED.get(traits.dtype, 2.0**-126) if traits.flushes else 0.0
        with np.errstate(all="ignore"):
            size = np.maximum(np.abs(want.hi), np.nan_to_num(scale, posinf=0.0))
        return Numbers(got, want, ulp, spacing(dtype, size), flush)


def _errors(case: Case, a: Side, b: Side) -> Pair | None:
    """Return how they differ if one raises and the other does not."""
    if (a.error is None) == (b.error is None):
        return None
    shown = [said(s.error) if s.error is not None else "a result" for s in (a, b)]
    exact = f"raises {case.error.__name__}" if case.error is not None else ""
    return Pair(case, "differ", "error", a=shown[0], b=shown[1], exact=exact)


def _part(case: Case, part: str, a: Side, b: Side) -> Pair | None:
    """Return how they differ in a part, or None."""
    one, two = a.numbers(part), b.numbers(part)
    if one is None or two is None:
        return None
    if one.got.shape != two.got.shape:
        shapes = [f"shape {numbers.got.shape}" for numbers in (one, two)]
        exact = f"shape {one.want.hi.shape}"
        return Pair(case, "differ", part, a=shapes[0], b=shapes[1], exact=exact)
    shape = one.got.shape
    with np.errstate(all="ignore"):
        apart = np.abs(one.got - two.got)
        same = (one.got == two.got) | (np.isnan(one.got) & np.isnan(two.got))
        apart = np.where(same, 0.0, np.where(np.isfinite(apart), apart, np.inf))
        unit = np.broadcast_to(np.maximum(one.unit, two.unit), shape)
        allowed = np.broadcast_to(one.allowed + two.allowed, shape)
        ulp = apart / unit
        beyond = (ulp > allowed) & (apart > one.flush + two.flush)
    if not beyond.any():
        return None
    at = np.unravel_index(int(np.argmax(np.where(beyond, ulp / allowed, -1.0))), shape)
    exact = " or ".join(dict.fromkeys(f"{n.want.hi[at]:.9g}" for n in (one, two)))
    return Pair(
        case, "differ", part, "", float(ulp[at]), float(allowed[at]), float(apart[at]),
        tuple(int(i) for i in at), f"{one.got[at]:.9g}", f"{two.got[at]:.9g}", exact,
    )  # fmt: skip
