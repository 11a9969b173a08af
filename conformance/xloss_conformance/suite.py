"""Running subjects over cases."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .case import Case
from .report.record import described, light
from .subject import Subject
from .verdict import Verdict, judge


@dataclass
class Report:
    """Every verdict of a run."""

    subjects: list[Subject]
    cases: list[Case]
    verdicts: list[Verdict] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)  # libraries not here, and what installs them
    stale: list[str] = field(default_factory=list)  # declared deviations that are none
    seconds: float = 0.0
    mode: str = "full"  # or "quick"
    command: str = "xloss conform"
    described: list[dict[str, Any]] = field(default_factory=list)  # the subjects, as recorded

    @property
    def failures(self) -> list[Verdict]:
        return [v for v in self.verdicts if v.failed]

    @property
    def ok(self) -> bool:
        return not self.failures and not self.stale


def run(
    subjects: Sequence[Subject],
    cases: Iterable[Case],
    progress: Callable[[Subject, int], None] = lambda subject, done: None,
) -> Report:
    """Judge every subject by every case."""
    report = Report(list(subjects), list(cases))
    for subject in report.subjects:
        report.described.append(described(subject))
        for case in report.cases:
            report.verdicts.append(light(subject, judge(subject, case)))
            progress(subject, 1)
    return report
