"""Running subjects over cases, in this process or in several."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import NamedTuple

from .case import Case
from .deviations import Deviation, declared, stale
from .homes import Missing, home
from .report.light import light
from .report.text import summary
from .subject import Subject
from .verdict import Verdict, judge


class Told(NamedTuple):
    """What a subject is, without what it takes to run it."""

    name: str
    kind: str  # "xloss", "peer", "candidate"
    library: str
    engine: str
    device: str
    dtype: str
    gradient: str
    version: str


def _nothing() -> None:
    """Prepare nothing."""


@dataclass(frozen=True)
class Source:
    """A subject that whoever runs it makes: no array library is imported before that."""

    library: str
    make: Callable[[], Subject]  # picklable; Missing says why there is none here
    required: bool = False  # asked for by name: Missing ends the run
    cost: int = 0  # the higher, the earlier it begins: the longest must not come last
    stranger: bool = False  # a candidate: it may hang
    before: Callable[[], object] = _nothing  # picklable: imports what is no stranger's


class Nonconforming(AssertionError):
    """A loss does not do what its definition says; the message tells where."""


@dataclass
class Report:
    """Every verdict of a run, by subject, then by case."""

    subjects: list[Told]
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

    def raise_for_failures(self) -> None:
        """Raise `Nonconforming`, an AssertionError, unless the report is ok."""
        if not self.ok:
            raise Nonconforming(str(self))

    def __str__(self) -> str:
        return summary(self)


KEPT = 100  # cases after which a library forgets what it has compiled
Progress = Callable[[int, int], None]  # told the verdicts there are, and how many there will be


class Collector:
    """What came of each source so far, in whatever order it comes."""

    def __init__(self, sources: int, cases: Sequence[Case], progress: Progress) -> None:
        self.cases = cases
        self.progress = progress
        self.subjects: list[Told | None] = [None] * sources
        self.verdicts: list[list[Verdict]] = [[] for _ in range(sources)]
        self.missing: dict[int, str] = {}

    def take(self, source: int, found: Told | str | Verdict) -> None:
        """Take what `answers` yields: of a verdict, the case may have stayed behind."""
        if isinstance(found, Told):
            self.subjects[source] = found
        elif isinstance(found, str):
            self.missing[source] = found
        else:
            of = self.verdicts[source]
            of.append(replace(found, case=self.cases[len(of)]))
        there = len(self.subjects) - len(self.missing)
        self.progress(sum(map(len, self.verdicts)), there * len(self.cases))

    def at(self, source: int, label: str) -> str:
        """Say what a source, by this label before it has a name, was about to answer."""
        told, done = self.subjects[source], len(self.verdicts[source])
        if told is None:
            return f"loading {label}"
        if done == len(self.cases):
            return f"done with {told.name}"
        return f"running {told.name} on {self.cases[done].name}"


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
    sources = [s if isinstance(s, Source) else Source(s.library, _Just(s)) for s in subjects]
    collector = Collector(len(sources), listed, progress)
    if jobs is not None:
        from .workers import work

        work(sources, collector, max(1, min(jobs, len(sources))), timeout)
    else:
        for i, source in enumerate(sources):
            for found in answers(source, listed):
                collector.take(i, found)
    report = Report([told for told in collector.subjects if told is not None], listed)
    report.missing = list(dict.fromkeys(collector.missing.values()))
    report.verdicts = [declared(v, deviations) for of in collector.verdicts for v in of]
    report.stale = stale(deviations, report)
    report.seconds = time.perf_counter() - begun
    return report


@dataclass(frozen=True)
class _Just:
    subject: Subject

    def __call__(self) -> Subject:
        return self.subject


def answers(source: Source, cases: Sequence[Case]) -> Iterator[Told | str | Verdict]:
    """Yield what a source's subject is, or why there is none; then its verdicts, without arrays."""
    try:
        subject = source.make()
    except Missing as error:
        if source.required:
            raise
        yield str(error)
        return
    yield told(subject)
    for i, case in enumerate(cases, 1):
        yield light(subject, judge(subject, case))
        if i % KEPT == 0 or i == len(cases):
            home(subject.library).forget()


def told(subject: Subject) -> Told:
    """Return what a subject is."""
    of = home(subject.library)
    return Told(
        subject.name,
        getattr(subject, "kind", "candidate"),
        subject.library,
        getattr(subject, "engine", ""),
        getattr(of, "device", "cpu"),
        subject.traits.dtype,
        subject.traits.gradient,
        getattr(subject, "version", "") or of.version(),
    )
