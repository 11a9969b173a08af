"""What each loss does wrong, in sentences: a record for a reader who knows no ulp.

Failures of one subject are grouped by what they are about: by family where a number is wrong, by
rule where something else is, and those of which only the last digits are off in one group of their
own. Each group is told by the failure that shows it best.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import floor, inf, isfinite, isinf, isnan, log10
from typing import Any, NamedTuple

from ..formats import FORMATS, accumulated
from .tally import KINDS, Cell, Record
from .training import EFFECTS, FAMILIES, NO, ORDER, RULES, SOMETIMES, YES, Family, Rule

NUMBERS = {"value": "loss", "gradient": "gradient", "targets gradient": "gradient to the targets"}
# Relative errors: up to the first the last digits are off, up to the second no more than a percent.
ROUNDING, PERCENT = 1e-4, 1e-2
# Losses and gradients below it are small beside those of an ordinary row.
SMALL = 1e-3
ROUNDED = "Last digits"
RANK = [*EFFECTS][:-1] + [rule for rule in RULES if rule not in NUMBERS] + ["rounding"]


class Seen(NamedTuple):
    """One finding, and what kind of error it is: an effect, or its rule."""

    effect: str
    finding: dict[str, Any]


@dataclass
class Mistake:
    """What a subject does wrong about one thing, and the failure that shows it best."""

    title: str
    matters: str
    did: str
    training: str
    met: str
    cell: Cell
    failed: int
    judged: int

    @property
    def consequence(self) -> str:
        """What comes of it in training, and when it is met."""
        return f"{self.training} Met with {self.met}." if self.met else self.training


@dataclass
class Judged:
    """The subjects of one name in every dtype: how many calls, and what is wrong."""

    name: str
    kind: str
    library: str
    version: str
    failed: int = 0
    judged: int = 0
    mistakes: list[Mistake] = field(default_factory=list)

    def sorts(self) -> str:
        """Say how many of the failures matter: "121 matter in training, 36 can matter"."""
        counts = dict.fromkeys(ORDER, 0)
        for mistake in self.mistakes:
            counts[mistake.matters] += mistake.failed
        said = {YES: "matter in training", SOMETIMES: "can matter", NO: "do not"}
        return ", ".join(f"{n:,} {said[matters]}" for matters, n in counts.items() if n)


def group(subject: dict[str, Any]) -> str:
    """Return the name of a subject without its dtype; all of xloss is one."""
    if subject["kind"] == "xloss":
        return "xloss"
    return str(subject["name"]).removesuffix(f" {subject['dtype']}")


def judged(record: Record) -> list[Judged]:
    """Return what was asked anything, candidates and peers first, each with its mistakes."""
    subjects = {subject["name"]: subject for subject in record["subjects"]}
    cases = {case["name"]: case for case in record["cases"]}
    of: dict[str, list[Cell]] = {}
    for cell in record["cells"]:
        if cell["status"] != "refused":
            of.setdefault(group(subjects[cell["subject"]]), []).append(cell)
    found = []
    for name, cells in of.items():
        first = subjects[cells[0]["subject"]]
        one = Judged(name, first["kind"], first["library"], first["version"])
        if one.kind == "xloss":
            one.version = record["xloss"]
        one.judged = len(cells)
        one.failed = sum(cell["status"] == "fail" for cell in cells)
        one.mistakes = list(_mistakes(cells, cases, subjects))
        one.mistakes.sort(key=lambda mistake: ORDER.index(mistake.matters))  # else as the cases
        found.append(one)
    return sorted(found, key=lambda one: [*KINDS].index(one.kind))


def picked(mistakes: Sequence[Mistake], most: int = 4) -> tuple[list[Mistake], list[Mistake]]:
    """Return what is told in full, something that can matter among it, and the rest."""
    if len(mistakes) <= most:
        return list(mistakes), []
    first = [m for m in mistakes if m.matters == YES][:3]
    first += [m for m in mistakes if m.matters == SOMETIMES][:1]
    first += [m for m in mistakes if m not in first][: most - len(first)]
    return [m for m in mistakes if m in first], [m for m in mistakes if m not in first]


def _mistakes(
    cells: list[Cell], cases: dict[str, Any], subjects: dict[str, Any]
) -> Iterator[Mistake]:
    groups: dict[str, list[tuple[Seen, Cell]]] = {}
    for cell in cells:
        if cell["status"] == "fail" and cell["findings"]:
            dtype = subjects[cell["subject"]]["dtype"]
            seen = min(_seen(cell, dtype), key=lambda one: RANK.index(one.effect))
            family = cases[cell["case"]]["family"]
            about = {"rounding": ROUNDED}.get(seen.effect, seen.effect)
            if seen.effect in EFFECTS and seen.effect != "rounding":
                about = f"family {family}"
            groups.setdefault(about, []).append((seen, cell))
    for about, members in groups.items():

        def telling(member: tuple[Seen, Cell]) -> tuple[Any, ...]:
            seen, cell = member
            case = cases[cell["case"]]
            narrow = subjects[cell["subject"]]["dtype"] != "float32"
            loud = _loudness(seen, subjects[cell["subject"]]["dtype"])
            return _matters(seen), RANK.index(seen.effect), *loud, narrow, not case["quick"]

        seen, cell = min(members, key=telling)
        case = cases[cell["case"]]
        asked = len(cells)
        if about.startswith("family "):
            asked = sum(cases[one["case"]]["family"] == case["family"] for one in cells)
        yield _told(seen, cell, case, subjects[cell["subject"]]["dtype"], len(members), asked)


def _seen(cell: Cell, dtype: str) -> list[Seen]:
    return [Seen(_effect(finding, dtype), finding) for finding in cell["findings"]]


def _effect(finding: dict[str, Any], dtype: str) -> str:
    """Return what kind of error a finding is; its rule where it is none of a number."""
    rule = str(finding["rule"])
    if rule not in NUMBERS or finding["got"] is None:
        return rule if rule in RULES else "runs"
    got, want = float(finding["got"]), float(finding["want"])
    if isnan(got):
        return "nan"
    if isinf(got) and isfinite(want):
        return "infinite"
    if not isfinite(want):
        return "hidden"
    off = _relative(finding, dtype)
    if off < ROUNDING:
        return "rounding"
    if max(abs(got), abs(want)) < SMALL:
        return "small"
    return "digits" if off < PERCENT else "wrong"


def _relative(finding: dict[str, Any], dtype: str) -> float:
    """Return an error relative to the size in whose ulp it is counted."""
    kind = accumulated(dtype) if finding["rule"] == "value" else dtype
    ulp = finding["ulp"]
    return inf if ulp is None else float(ulp) * 2.0 ** (1 - FORMATS[kind][0])


def _matters(seen: Seen) -> int:
    known = EFFECTS.get(seen.effect)
    return ORDER.index(known.matters if known else RULES[seen.effect].matters)


def _loudness(seen: Seen, dtype: str) -> tuple[float, ...]:
    """Order errors of one kind: 0 for the largest number first, the loss before the gradient."""
    if seen.effect not in EFFECTS:
        return (0.0, 0.0, 0.0)
    if seen.effect == "rounding":
        return (0.0, 0.0, -_relative(seen.finding, dtype))
    got, want = float(seen.finding["got"]), float(seen.finding["want"])
    size = abs(want) if isfinite(want) else 0.0
    return (seen.finding["rule"] != "value", got != 0, -size)


def _told(
    seen: Seen, cell: Cell, case: dict[str, Any], dtype: str, failed: int, asked: int
) -> Mistake:
    family = FAMILIES.get(case["family"], Family(case["family"], ""))
    effect = EFFECTS.get(seen.effect)
    if effect is None:
        rule: Rule = RULES[seen.effect]
        did = _broken(seen, case)
        return Mistake(rule.title, rule.matters, did, rule.training, "", cell, failed, asked)
    rounded = seen.effect == "rounding"
    # A loss that is wrong matters by the gradient that is taken through it, where one is.
    through = any(
        one.effect in EFFECTS and one.effect != "rounding" and one.finding["rule"] != "value"
        for one in _seen(cell, dtype)
    )
    return Mistake(
        ROUNDED if rounded else family.title,
        effect.matters,
        _number(seen, dtype),
        effect.of_gradient if through else effect.of_loss,
        "" if rounded else family.met,
        cell,
        failed,
        asked,
    )


def _number(seen: Seen, dtype: str) -> str:
    """Return what came out, beside what is right."""
    finding = seen.finding
    what = NUMBERS[finding["rule"]]
    got, want = float(finding["got"]), float(finding["want"])
    given, right = shown(got, want)
    verb = "returns" if what == "loss" else f"its {what} is"
    if isnan(want):
        return f"{verb} {given} where only NaN is right"
    said = f"{verb} {given} where the exact {what} is {right}"
    if seen.effect in ("rounding", "digits"):
        digits = max(1, floor(-log10(_relative(finding, dtype))))
        return f"{said}: {digits} digit{'s' if digits > 1 else ''} agree"
    if seen.effect in ("small", "wrong") and got != 0 != want:
        off = abs(got / want - 1)
        if off < 0.995:
            return f"{said}, {off:.0%} off"
        return f"{said}, {_times(off)} off" if off > 2 else said
    return said


def _times(off: float) -> str:
    return f"{off:.0f} times" if off < 1000 else f"{off:.0e} times"


def shown(got: float, want: float) -> tuple[str, str]:
    """Return two numbers in as many digits as tell them apart."""
    words = {"nan": "NaN", "inf": "infinity", "-inf": "-infinity", "-0": "0"}
    digits = 3
    if isfinite(got) and isfinite(want) and got != 0 != want:
        apart = (n for n in range(2, 17) if f"{got:.{n}g}" != f"{want:.{n}g}")
        # One digit more than tells them apart, so that the distance can be seen, too.
        digits = max(digits, next(apart, 16) + 1)
    pair = f"{got:.{digits}g}", f"{want:.{digits}g}"
    return words.get(pair[0], pair[0]), words.get(pair[1], pair[1])


def _broken(seen: Seen, case: dict[str, Any]) -> str:
    """Return how a rule is broken that is about no number's size."""
    finding = seen.finding
    detail = str(finding["detail"])
    if seen.effect == "raises" and detail.startswith("no error"):
        return f"answers “{case['name']}” without an error"
    if seen.effect == "runs" and finding["rule"] == "runs":
        return f"stops with {detail}"
    if seen.effect == "nothing" and finding["got"] is not None:
        return f"{detail} is {shown(float(finding['got']), 0.0)[0]}, not 0"
    return detail
