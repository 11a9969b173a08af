"""What each loss does wrong, in sentences: a record for a reader who knows no ulp.

Failures of one subject are grouped by what they are about: by family where a number is wrong, by
rule where something else is, and those of which only the last digits are off in one group of their
own. Each group is told by the failure that shows it best.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite, isinf, isnan
from typing import Any

from ..formats import FORMATS, accumulated
from .record import KINDS, Cell, Record
from .training import EFFECTS, FAMILIES, NO, ORDER, RULES, SOMETIMES, YES

NUMBERS = {"value": "loss", "gradient": "gradient", "targets gradient": "gradient to the targets"}
# Relative errors: up to the first the last digits are off, up to the second no more than a percent.
ROUNDING, PERCENT = 1e-4, 1e-2
# Losses and gradients below it are small beside those of an ordinary row.
SMALL = 1e-3
ROUNDED = "Last digits"
RANK = [*EFFECTS][:-1] + [rule for rule in RULES if rule not in NUMBERS] + ["rounding"]


@dataclass
class Mistake:
    """What a subject does wrong about one thing, and the failure that shows it best."""

    title: str
    matters: str
    did: str
    consequence: str  # what comes of it in training, and when it is met
    cell: Cell
    failed: int
    judged: int


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
        version = record["xloss"] if first["kind"] == "xloss" else first["version"]
        failures = [
            Failure(cell, cases[cell["case"]], subjects[cell["subject"]]["dtype"])
            for cell in cells
            if cell["status"] == "fail"
        ]
        families = Counter(cases[cell["case"]]["family"] for cell in cells)
        mistakes = list(_mistakes(failures, len(cells), families))
        mistakes.sort(key=lambda mistake: ORDER.index(mistake.matters))  # else as the cases
        counts = len(failures), len(cells)
        found.append(Judged(name, first["kind"], first["library"], version, *counts, mistakes))
    return sorted(found, key=lambda one: [*KINDS].index(one.kind))


def picked(mistakes: Sequence[Mistake], most: int = 4) -> tuple[list[Mistake], list[Mistake]]:
    """Return what is told in full, something that can matter among it, and the rest."""
    if len(mistakes) <= most:
        return list(mistakes), []
    first = [m for m in mistakes if m.matters == YES][:3]
    first += [m for m in mistakes if m.matters == SOMETIMES][:1]
    first += [m for m in mistakes if m not in first][: most - len(first)]
    return [m for m in mistakes if m in first], [m for m in mistakes if m not in first]


class Failure:
    """A call that fails, told by the worst of its findings."""

    def __init__(self, cell: Cell, case: Record, dtype: str) -> None:
        self.cell, self.case, self.dtype = cell, case, dtype
        seen = [(_effect(finding, dtype), finding) for finding in cell["findings"]]
        self.effect, self.finding = min(seen, key=lambda one: RANK.index(one[0]))
        # A loss that is wrong matters by the gradient that is taken through it, where one is.
        wrong = {*EFFECTS} - {"rounding"}
        self.through = any(kind in wrong and of["rule"] != "value" for kind, of in seen)

    @property
    def about(self) -> str:
        """What it is told together with."""
        if self.effect == "rounding":
            return ROUNDED
        return f"family {self.case['family']}" if self.effect in EFFECTS else self.effect

    @property
    def matters(self) -> str:
        return (EFFECTS.get(self.effect) or RULES[self.effect]).matters

    def telling(self) -> tuple[Any, ...]:
        """Order failures about one thing: the one to tell first."""
        rank = ORDER.index(self.matters), RANK.index(self.effect)
        loud: tuple[float, ...] = (0.0, 0.0, 0.0)  # of one kind: 0 for the largest number
        if self.effect == "rounding":
            loud = (0.0, 0.0, -_relative(self.finding, self.dtype))
        elif self.effect in EFFECTS:
            got, want = float(self.finding["got"]), float(self.finding["want"])
            size = abs(want) if isfinite(want) else 0.0
            loud = (self.finding["rule"] != "value", got != 0, -size)
        return *rank, *loud, self.dtype != "float32", not self.case["quick"]


def _mistakes(
    failures: Sequence[Failure], asked: int, by_family: Counter[str]
) -> Iterator[Mistake]:
    groups: dict[str, list[Failure]] = {}
    for failure in failures:
        groups.setdefault(failure.about, []).append(failure)
    for members in groups.values():
        one = min(members, key=Failure.telling)
        effect, judged = EFFECTS.get(one.effect), asked
        if effect is None:
            title, training, _ = RULES[one.effect]
            did = _broken(one.effect, one.finding, one.case)
        else:
            title, did = ROUNDED, _number(one.finding)
            training = (one.through and effect.of_gradient) or effect.of_loss
            if one.effect != "rounding":
                name = one.case["family"]
                title, met = FAMILIES.get(name, (name, ""))
                training += f" Met with {met}." if met else ""
                judged = by_family[name]
        yield Mistake(title, one.matters, did, training, one.cell, len(members), judged)


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


def _number(finding: Record) -> str:
    """Return what came out, beside what is right."""
    what = NUMBERS[finding["rule"]]
    got, want = float(finding["got"]), float(finding["want"])
    given, right = shown(got, want)
    verb = "returns" if what == "loss" else f"its {what} is"
    if isnan(want):
        return f"{verb} {given} where only NaN is right"
    return f"{verb} {given} where the exact {what} is {right}"


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


def _broken(rule: str, finding: Record, case: Record) -> str:
    """Return how a rule is broken that is about no number's size."""
    detail = str(finding["detail"])
    if rule == "raises" and detail.startswith("no error"):
        return f"answers “{case['name']}” without an error"
    if rule == "runs" and finding["rule"] == "runs":
        return f"stops with {detail}"
    if rule == "nothing" and finding["got"] is not None:
        return f"{detail} is {shown(float(finding['got']), 0.0)[0]}, not 0"
    return detail
