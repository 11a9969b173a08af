"""Running subjects over cases, in this process or in several."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from functools import partial
from math import inf

from .answers import Collector, Progress, answers
from .deviations import Deviation, declared, stale
from .model import Case, Source, Subject
from .result import Report


def run(
    subjects: Sequence[Subject | Source],
    cases: Iterable[Case],
    *,
    jobs: int | None = None,
    timeout: float = inf,
    progress: Progress = lambda done, total: None,
    deviations: Sequence[Deviation] = (),
) -> Report:
    """Judge every subject by every case, in this process or in `jobs` others.

    What goes to others is picklable, and the cases are the catalogue's. There a stranger may take
    `timeout` seconds for a case, and any other ten times as long.
    """
    begun = time.perf_counter()
    listed = list(cases)
    sources = [
        s if isinstance(s, Source) else Source(s.library, partial(_made, s)) for s in subjects
    ]
    collector = Collector(len(sources), listed, progress)
    if jobs is not None:
        from .workers import work

        work(sources, collector, max(1, min(jobs, len(sources))), timeout)
    else:
        for i, source in enumerate(sources):
            for found in answers(source, listed):
                collector.take(i, found)
    report = Report([info for info in collector.subjects if info is not None], listed)
    report.missing = list(dict.fromkeys(collector.missing.values()))
    report.verdicts = [declared(v, deviations) for of in collector.verdicts for v in of]
    report.stale = stale(deviations, report)
    report.seconds = time.perf_counter() - begun
    return report


def _made(subject: Subject) -> Subject:
    return subject
