"""The verdicts of a whole run, and their plain text: for assertion messages and for `print`."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from .model import RULES, Case, Finding, SubjectInfo, Verdict
from .printable import visible, visible_lines
from .snippet import setup

SHOWN = 5  # failures that a summary explains, each of another family
NAMED = 12  # and those that it names beside them
TOLD = {"declared": "declared", "refused": "not offered"}


class Nonconforming(AssertionError):
    """A loss does not do what its definition says; the message tells where."""


@dataclass
class Report:
    """Every verdict of a run, by subject, then by case."""

    subjects: list[SubjectInfo]
    cases: list[Case]
    verdicts: list[Verdict] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)  # libraries not here, and what installs them
    stale: list[str] = field(default_factory=list)  # declared deviations that are none
    seconds: float = 0.0
    mode: str = "full"  # or "quick"
    command: str = "xloss conform"

    @property
    def failures(self) -> list[Verdict]:
        return [v for v in self.verdicts if v.failed]

    @property
    def ok(self) -> bool:
        return not self.failures and not self.stale

    def unjudged(self) -> str | None:
        """Return why no case was judged, or None; where none was, that none failed says nothing."""
        if not self.verdicts or any(v.status != "refused" for v in self.verdicts):
            return None
        first = self.verdicts[0]
        why = f"{first.subject} offers no case that was asked; {first.case.name}: {first.note}"
        return visible(f"nothing was judged: {why}")

    def raise_for_failures(self) -> None:
        """Raise `Nonconforming`, an AssertionError, unless the report is ok."""
        if not self.ok:
            raise Nonconforming(str(self))

    def __str__(self) -> str:
        """Return a line for each subject, then the first failure of the first families."""
        parts = [
            _told(s.name, [v for v in self.verdicts if v.subject == s.name]) for s in self.subjects
        ]
        first: dict[tuple[str, str], Verdict] = {}
        for verdict in self.failures:
            first.setdefault((verdict.subject, verdict.case.family), verdict)
        told = list(first.values())[:SHOWN]
        parts += [explained(verdict) for verdict in told]
        rest = [v for v in self.failures if v not in told]
        if rest:
            parts.append(more([v.case.name for v in rest]))
        parts += [f"stale deviation: {visible(line)}" for line in self.stale]
        return visible_lines("\n\n".join(parts))


def _told(name: str, verdicts: list[Verdict]) -> str:
    """Say of a subject how many cases fail, and what was not judged."""
    count = Counter(v.status for v in verdicts)
    said = f"{name}: {count['fail']} of {len(verdicts) - count['refused']} cases fail"
    said += "".join(f", {count[k]} {word}" for k, word in TOLD.items() if count[k])
    ungiven = sum(
        "gradient" in v.want and "value" in v.got and "gradient" not in v.got for v in verdicts
    )
    if ungiven:
        said += f"; no gradient was given in {ungiven} cases, and none was judged"
    return said


def explained(verdict: Verdict, *, whole: bool = False) -> str:
    """Return why a case failed; whole: with every number, and the lines that show it again."""
    case = verdict.case
    lines = [f"{case.name}: {verdict.subject} fails", *wrapped(f"why: {case.reason}")]
    lines += [f"  see: {link}" for link in case.see]
    lines += wrapped(f"note: {verdict.note}") if verdict.note else []
    for finding in verdict.findings:
        rule = f"{finding.rule} ({RULES[finding.rule]})" if whole else finding.rule
        lines += wrapped(f"{rule}: {finding.detail}{_place(finding)}")
    if not whole:
        return visible_lines("\n".join(lines))
    for name in dict.fromkeys([*verdict.got, *verdict.want]):
        for kind, values in (("got", verdict.got), ("expected", verdict.want)):
            if name in values:
                lines += wrapped(f"{kind} {name}: {values[name]}")
    if verdict.call:
        lines.append("  to see it again:")
        lines.append(textwrap.indent(f"{setup(case)}\n{verdict.call}", "    "))
    return visible_lines("\n".join(lines))


def _place(finding: Finding) -> str:
    if finding.at is None or finding.got is None:
        return ""
    at = "" if not finding.at else f" at {list(finding.at)}"
    return f";{at} got {finding.got:.9g}, expected {finding.want:.9g}"


def more(names: list[str]) -> str:
    """Name further cases, the first of them."""
    named = ", ".join([*names[:NAMED], *(["..."] if names[NAMED:] else [])])
    return "\n".join(wrapped(f"{len(names)} more: {named}", ""))


def wrapped(text: str, indent: str = "  ", width: int = 96) -> list[str]:
    """Return text in lines, those after the first further in; long words stay whole."""
    return textwrap.wrap(
        text,
        max(20, width),
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    """Give the rows as lines, the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        yield "  ".join([first.ljust(widths[0]), *cells]).rstrip()
