"""What one subject answers: what it is, then its verdicts, whose arrays have become text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from .formats import accumulated
from .judge import judge
from .libraries import array_library
from .model import PARTS, Case, Missing, Source, Subject, SubjectInfo, Verdict
from .printable import first_line
from .snippet import text

KEPT = 100  # cases after which a library forgets what it has compiled
Progress = Callable[[int, int], None]  # told the verdicts there are, and how many there will be


def answers(source: Source, cases: Sequence[Case]) -> Iterator[SubjectInfo | str | Verdict]:
    """Yield what a source's subject is, or why there is none; then its verdicts, without arrays."""
    try:
        subject = source.make()
    except Missing as error:
        if source.required:
            raise
        yield str(error)
        return
    yield describe(subject)
    for i, case in enumerate(cases, 1):
        yield lightened(subject, judge(subject, case))
        if i % KEPT == 0 or i == len(cases):
            array_library(subject.library).forget()


def describe(subject: Subject) -> SubjectInfo:
    """Return what a subject is."""
    of, traits = array_library(subject.library), subject.traits
    where = subject.library, getattr(subject, "engine", ""), getattr(of, "device", "cpu")
    version = getattr(subject, "version", "") or of.version()
    kind = getattr(subject, "kind", "candidate")
    return SubjectInfo(subject.name, kind, *where, traits.dtype, traits.gradient, version)


def lightened(subject: Subject, verdict: Verdict) -> Verdict:
    """Return a verdict whose arrays have become text, as it crosses processes and is recorded.

    Its case stays behind: its place in the order tells which it is.
    """
    case, outcome, expected = verdict.case, verdict.outcome, verdict.expected
    dtype = subject.traits.dtype
    loss = accumulated(dtype)
    got, want = {}, {}
    if outcome is not None and outcome.error is not None:
        got["error"] = first_line(outcome.error)
    elif outcome is not None:
        of = outcome.value_dtype or loss, outcome.grad_dtype or dtype, dtype
        got = {k: text(case, v, kind) for k, v, kind in zip(PARTS, outcome.parts, of, strict=True)}
    if case.error is not None:
        want["error"] = f"{case.error.__name__} naming {case.names}".removesuffix(" naming ")
    elif expected is not None:
        asked = expected[:1] if case.value_only else expected[:3]
        each = zip(PARTS, asked, (loss, dtype, dtype), strict=False)
        want = {k: text(case, v.hi, kind) for k, v, kind in each if v is not None}
    lines = [] if verdict.status == "refused" else subject.snippet(case)
    got, want = ({k: v for k, v in side.items() if v} for side in (got, want))
    left: Any = None
    light = replace(verdict, case=left, outcome=None, expected=None, parts=[])
    return replace(light, call="\n".join(lines), got=got, want=want)


class Collector:
    """What came of each source so far, in whatever order it comes."""

    def __init__(self, sources: int, cases: Sequence[Case], progress: Progress) -> None:
        self.cases = cases
        self.progress = progress
        self.subjects: list[SubjectInfo | None] = [None] * sources
        self.verdicts: list[list[Verdict]] = [[] for _ in range(sources)]
        self.missing: dict[int, str] = {}

    def take(self, source: int, found: SubjectInfo | str | Verdict) -> None:
        """Take what `answers` yields."""
        if isinstance(found, SubjectInfo):
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
        info, done = self.subjects[source], len(self.verdicts[source])
        if info is None:
            return f"loading {label}"
        if done == len(self.cases):
            return f"done with {info.name}"
        return f"running {info.name} on {self.cases[done].name}"
