"""Two losses on the same cases: where they first differ, by how much, and which is right."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ..candidates import PEERS, Candidate, load, peer
from ..conventions import Convention
from ..libraries import LIBRARIES, array_library
from ..load_object import among
from ..model import LoadError, Subject, SubjectInfo
from ..printable import visible_lines
from ..report.record import head, plain
from ..result import more, wrapped
from ..run import describe
from ..selection import chosen, dtypes, styled
from ..snippet import setup
from ..xloss_subjects import Xloss
from .pair import STATUSES, Pair, paired

Given: TypeAlias = str | Callable[..., Any]
# What a loss may be named by, beside these.
FORMS = ("xloss:LIBRARY", "FILE.py:FUNCTION", "MODULE:FUNCTION", "MODULE:FUNCTION@CONVENTION")
SAYS = {"both": "both within budget"} | {who: f"{who} is right" for who in ("A", "B", "neither")}


def compare(
    a: Given,
    b: Given,
    *,
    convention: str | Convention = "xloss",
    arrays: str | None = None,
    loss: str | None = None,
    dtype: str = "float32",
    families: Iterable[str] | None = None,
    quick: bool = False,
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

    Raises
    ------
    ValueError
        A name that is none; no case that both offer.
    Missing
        A library that is not here.
    """
    how = {"convention": convention, "arrays": arrays, "dtype": dtype}
    *_, (found, _) = steps(a, b, loss, families, quick, **how)
    return found


def compared(a: str, b: str, **options: Any) -> Iterator[tuple[int, int, str, dict[str, Any]]]:
    """Yield how many cases are done, and of how many; in the end the text and the record too."""
    for found, total in steps(a, b, **options):
        yield len(found.pairs), total, "", {}
    yield total, total, visible_lines(str(found)), record(found)


def steps(
    a: Given, b: Given, loss: str | None, families: Iterable[str] | None, quick: bool, **how: Any
) -> Iterator[tuple[Comparison, int]]:
    """Yield the comparison as it grows, and how many cases there will be."""
    one, two = (subject(given, loss or "cross_entropy", **how) for given in (a, b))
    if loss is None and (isinstance(one, Candidate) or isinstance(two, Candidate)):
        loss = "cross_entropy"
    cases = chosen(loss, families, quick, on_demand=families is not None)
    found = Comparison(describe(one), describe(two))
    yield found, len(cases)
    for case in cases:
        found.pairs.append(paired(one, two, case))
        if len(found.pairs) == len(cases) and not found.compared:
            raise LoadError(f"{found.a.name} and {found.b.name} have no case in common")
        yield found, len(cases)


def subject(
    given: Given, loss: str, convention: str | Convention, arrays: str | None, dtype: str
) -> Subject:
    """Return what a name or a function stands for."""
    (dtype,) = dtypes(dtype)
    if not isinstance(given, str):
        return load(given, styled(convention, arrays), loss=loss, dtype=dtype)
    first, _, rest = given.partition(":")
    if first == "xloss" and (not rest or rest in LIBRARIES):
        made = Xloss(rest or "numpy", dtype)
        if dtype not in array_library(made.library).dtypes:
            raise LoadError(f"{given} has no {dtype}")
        return made
    if given in PEERS:
        return peer(given, dtype)
    if not rest:
        among("loss", given, ("xloss", *PEERS, *FORMS))
    spec, _, own = given.partition("@")
    return load(spec, styled(own) if own else styled(convention, arrays), loss=loss, dtype=dtype)


# ---- What comes of it --------------------------------------------------------------------------


@dataclass
class Comparison:
    """Every case, answered by both, in the catalogue's order."""

    a: SubjectInfo
    b: SubjectInfo
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
        """Return the first difference, the others in a line each, and counts by family."""
        sides, first = {"A": self.a, "B": self.b}, self.first
        heads = [f"{letter}  {told.name} ({_of(told)})" for letter, told in sides.items()]
        parts = ["\n".join(heads)]
        if first is None:
            apart = "but by definition" if _by_definition(self) else "anywhere"
            parts.append(f"They do not differ {apart}: {self.compared} cases compared.")
        else:
            parts.append(_first(first))
        if rest := [pair.case.name for pair in self.differences[1:]]:
            parts.append(more(rest))
        parts += _by_definition(self)
        parts.append(", ".join(f"{n} {what}" for what, n in counts(self).items() if n))
        return "\n\n".join(parts)


def _first(pair: Pair) -> str:
    case = pair.case
    lines = [f"They first differ on {case.name}: {SAYS[pair.right]}"]
    lines += wrapped(f"why: {case.reason}")
    lines += [f"  see: {link}" for link in case.see]
    place = f" at {list(pair.at)}" if pair.at else ""
    lines.append(f"  {pair.part}{place}: {_apart(pair)}")
    shown = {"A": pair.a, "B": pair.b, "exact": pair.exact}
    lines += [f"    {name.ljust(5)}  {value}" for name, value in shown.items() if value]
    for letter, note in pair.notes.items():
        lines += wrapped(f"{letter}, by its own definition: {note}")
    lines += ["  to see it again:", textwrap.indent(setup(case), "    ")]
    for letter, call in pair.calls.items():
        lines += ["", f"    # {letter}", textwrap.indent("\n".join(call), "    ")]
    return "\n".join(lines)


def _apart(pair: Pair) -> str:
    if pair.ulp is None or pair.apart is None:
        return "not the same"
    if pair.apart == float("inf") or pair.apart != pair.apart:
        return "not both numbers"
    but = ", their definitions left out" if " or " in pair.exact else ""
    size = f"{pair.apart:.3g} apart, {pair.ulp:.3g} ulp{but}"
    return f"{size}; both budgets together: {pair.allowed:.3g}"


def _of(told: SubjectInfo) -> str:
    kinds = {"xloss": f"{told.version} on {told.library}", "peer": told.version}
    return kinds.get(told.kind, f"on {told.library} {told.version}")


def _by_definition(comparison: Comparison) -> list[str]:
    """Return the notes of definitions that differ, each with its cases."""
    by_note: dict[str, list[str]] = {}
    for pair in comparison.pairs:
        if pair.status == "by definition":
            note = "; ".join(f"{letter}: {note}" for letter, note in pair.notes.items())
            by_note.setdefault(note, []).append(pair.case.name)
    if not by_note:
        return []
    lines = ["By definition they differ on"]
    for note, names in by_note.items():
        more = f" and {len(names) - 1} more" if names[1:] else ""
        lines += wrapped(f"{names[0]}{more}: {note}")
    return ["\n".join(lines)]


def counts(comparison: Comparison) -> dict[str, int]:
    """Return how many cases there are of each kind."""
    pairs = comparison.pairs
    found = {"cases": len(pairs)} | {k: sum(p.status == k for p in pairs) for k in STATUSES[:3]}
    found["agree, both wrong"] = sum(p.status == "agree" and p.right == "neither" for p in pairs)
    for letter in "AB":
        refused = (p.status == "not offered" and letter in p.notes for p in pairs)
        found[f"not offered by {letter}"] = sum(refused)
    return found


def record(comparison: Comparison) -> dict[str, Any]:
    """Return the same as what JSON can hold; numbers that are not finite as "nan", "inf"."""
    first = comparison.first
    made = {
        **head(),
        "a": comparison.a._asdict(),
        "b": comparison.b._asdict(),
        "first": None if first is None else first.case.name,
        "counts": counts(comparison),
        "pairs": [_pair(pair) for pair in comparison.pairs],
        "ok": comparison.ok,
    }
    return dict(plain(made))


def _pair(pair: Pair) -> dict[str, Any]:
    case = pair.case
    made: dict[str, Any] = {"case": case.name, "family": case.family, "reason": case.reason}
    made |= {k: v for k, v in vars(pair).items() if k not in ("case", "calls")}
    if pair.calls:
        made["setup"] = setup(case)
        made["calls"] = {letter: "\n".join(lines) for letter, lines in pair.calls.items()}
    return made
