"""Running subjects over cases, in this process or in several: what each is, and its verdicts."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from math import inf
from typing import Any

from .cases import catalogue
from .deviations import Deviation, declared, stale
from .formats import accumulated
from .judge import judge
from .libraries import array_library
from .model import PARTS, Case, Missing, Source, Subject, SubjectInfo, Verdict
from .printable import first_line
from .result import Report
from .snippet import text
from .workers import Task, messages

KEPT = 100  # cases after which a library forgets what it has compiled
OURS = 10  # times as long as a stranger may xloss and its peers take, some of which compile
Progress = Callable[[int, int], None]  # told the verdicts there are, and how many there will be


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
    found: list[list[Any]] = [[] for _ in sources]  # by source, in whatever order they come
    with closing(_sent(sources, listed, found, jobs, timeout)) as sent:
        for place, answer in sent:
            found[place].append(answer)
            there = sum(not of or not isinstance(of[0], str) for of in found)
            progress(sum(len(of) - 1 for of in found if of), there * len(listed))
    first = [of[0] for of in found]
    report = Report([told for told in first if isinstance(told, SubjectInfo)], listed)
    report.missing = list(dict.fromkeys(told for told in first if isinstance(told, str)))
    for of in found:  # its place in the order tells which case a verdict is of
        verdicts = (replace(v, case=case) for v, case in zip(of[1:], listed, strict=False))
        report.verdicts += (declared(verdict, deviations) for verdict in verdicts)
    report.stale = stale(deviations, report)
    report.seconds = time.perf_counter() - begun
    return report


def _made(subject: Subject) -> Subject:
    return subject


# ---- In processes --------------------------------------------------------------------------------


def _sent(
    sources: Sequence[Source],
    cases: Sequence[Case],
    found: Sequence[Sequence[Any]],
    jobs: int | None,
    timeout: float,
) -> Generator[tuple[int, Any], None, None]:
    """Yield each answer of every source, with the source's place."""
    if jobs is None:
        for place, source in enumerate(sources):
            yield from ((place, answer) for answer in answers(source, cases))
        return
    names = [case.name for case in cases]
    tasks = []
    for source, of in zip(sources, found, strict=True):
        at = partial(_at, source.library, names, of)
        limit = timeout * (1 if source.stranger else OURS)
        tasks.append(Task(_answers, (source, names), at, limit, source.library, source.cost))
    sent = messages(tasks, max(1, min(jobs, len(sources))))
    yield from ((place, answer) for place, answer in sent if answer is not None)


def _at(label: str, names: Sequence[str], found: Sequence[Any]) -> str:
    """Say what a source, by this label before it has a name, was about to answer."""
    if not found or not isinstance(found[0], SubjectInfo):
        return f"loading {label}"
    if len(found) > len(names):
        return f"done with {found[0].name}"
    return f"running {found[0].name} on {names[len(found) - 1]}"


def _answers(source: Source, names: Sequence[str]) -> Iterator[Any]:
    """Yield None when what is no stranger's is loaded, then what its subject answers."""
    named = {case.name: case for case in catalogue()}
    if source.before is not None:
        source.before()
    yield None
    yield from answers(source, [named[name] for name in names])


# ---- One subject ---------------------------------------------------------------------------------


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
