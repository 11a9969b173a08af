"""Known deviations: failures that are declared, with a reason and a link, in a TOML file.

    [[deviation]]
    subject = "xloss jax *"            # subjects and cases by name; * and ? stand for any text
    case = "tail/gap 8?"
    rule = "value"                     # one of verdict.RULES
    reason = "why it is so, and what it would take to be otherwise"
    link = "https://..."

A cell all of whose findings are declared is no failure. An entry that matches nothing known, or
that none of its cells needs any more, is stale: an error.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from .model import RULES, Verdict

if TYPE_CHECKING:
    from .result import Report

FILE = Path(__file__).with_name("deviations.toml")  # xloss's own


class BadFile(ValueError):
    """A file that is no list of deviations; the message says where and why."""


@dataclass(frozen=True)
class Deviation:
    """An entry of the file."""

    subject: str
    case: str
    rule: str
    reason: str
    link: str

    def __str__(self) -> str:
        return f"{self.subject!r} on {self.case!r}, rule {self.rule}"

    def names(self, verdict: Verdict) -> bool:
        """Whether a verdict is of its subjects and cases."""
        subject = fnmatchcase(verdict.subject, self.subject)
        return subject and fnmatchcase(verdict.case.name, self.case)


def read(file: Path) -> list[Deviation]:
    """Return the entries of a file."""
    if file.exists() and not (file.is_file() or file.is_dir()):
        raise BadFile(f"{file}: is a FIFO or a device, not a file")  # it would be waited for
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadFile(f"{file}: {error}") from None
    entries = table.pop("deviation", [])
    if table or not isinstance(entries, list):
        raise BadFile(f"{file}: expected [[deviation]] entries and nothing else")
    return [_entry(file, i, entry) for i, entry in enumerate(entries, 1)]


def _entry(file: Path, number: int, entry: object) -> Deviation:
    here = f"{file}: deviation {number}"
    wanted = [field.name for field in fields(Deviation)]
    if not isinstance(entry, dict):
        raise BadFile(f"{here}: expected a table")
    for name in wanted:
        if not isinstance(entry.get(name), str) or not entry[name].strip():
            raise BadFile(f"{here}: {name} is missing, or no text")
    unknown = sorted(set(entry) - set(wanted))
    if unknown:
        raise BadFile(f"{here}: {unknown[0]} is unknown; expected {', '.join(wanted)}")
    if entry["rule"] not in RULES:
        raise BadFile(f"{here}: rule {entry['rule']!r} is none of {', '.join(RULES)}")
    if not entry["link"].startswith(("https://", "http://")):
        raise BadFile(f"{here}: link {entry['link']!r} is no address")
    return Deviation(**entry)


def declared(verdict: Verdict, deviations: Iterable[Deviation]) -> Verdict:
    """Return the verdict, "declared" if every finding is."""
    if not verdict.failed:
        return verdict
    named = [d for d in deviations if d.names(verdict)]
    by_rule = {d.rule: d for d in named}
    if any(finding.rule not in by_rule for finding in verdict.findings):
        return verdict
    used = {by_rule[finding.rule]: None for finding in verdict.findings}
    notes = [verdict.note, *(f"{d.reason} ({d.link})" for d in used)]
    return replace(verdict, status="declared", note="; ".join(filter(None, notes)))


def stale(deviations: Sequence[Deviation], report: Report) -> list[str]:
    """Return a line for each entry that matches nothing, or that nothing needs any more.

    A run of some cases or subjects says nothing of an entry that reaches beyond them; a subject
    whose library is not here is not waited for.
    """
    from .cases import catalogue
    from .xloss_subjects import known

    lines = []
    cases = {case.name: case.on_demand for case in (*catalogue(), *report.cases)}
    run = {case.name for case in report.cases}
    subjects = {told.name: told.library for told in report.subjects}
    missing = {line.partition(":")[0] for line in report.missing}
    everyone = {**known(), **subjects}
    for entry in deviations:
        of = {name: cases[name] for name in cases if fnmatchcase(name, entry.case)}
        by = {name for name in everyone if fnmatchcase(name, entry.subject)}
        here = {name for name in by if name in subjects or everyone[name] not in missing}
        whole = all(name in run or later for name, later in of.items())
        if not of:
            lines.append(f"{entry}: there is no such case")
        elif not by:
            lines.append(f"{entry}: there is no such subject")
        elif here and here <= set(subjects) and whole:
            found = [v for v in report.verdicts if entry.names(v)]
            if not any(f.rule == entry.rule for v in found for f in v.findings):
                lines.append(f"{entry}: none of its {len(found)} cells breaks that rule any more")
    return lines
