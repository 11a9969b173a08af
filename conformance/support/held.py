"""A subject that must pass."""

from __future__ import annotations

from collections.abc import Sequence

from xloss_conformance.deviations import FILE, read
from xloss_conformance.model import Case, Subject
from xloss_conformance.result import Report, explained
from xloss_conformance.run import run


def held(subject: Subject, cases: Sequence[Case]) -> Report:
    report = run([subject], cases, deviations=read(FILE))
    assert not report.failures, "\n".join(explained(v) for v in report.failures)
    return report
