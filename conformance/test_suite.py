"""Running in worker processes, the same report; and what is run.

What becomes of workers that break is in tests/cli/test_conform.py.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from xloss_conformance.cases import catalogue
from xloss_conformance.libraries import LIBRARIES, array_library
from xloss_conformance.model import Missing, Source, Subject
from xloss_conformance.result import Report
from xloss_conformance.run import run
from xloss_conformance.selection import Plan, cases, sources
from xloss_conformance.xloss_subjects import AUTODIFF, DTYPES_OF, Xloss, known, of

TAIL = [case for case in catalogue() if case.family == "tail" and case.quick]
OWN = [Xloss("numpy", "float32"), Xloss("numpy", "float64")]


def compared(report: Report) -> list[Any]:
    return [
        (v.case.name, v.subject, v.status, v.value_ulp, v.grad_ulp, v.got, v.want, v.call)
        for v in report.verdicts
    ]


# ---- Processes -----------------------------------------------------------------------------------


def test_processes_give_the_same_report_in_the_same_order() -> None:
    chosen = [c for c in catalogue() if c.family in ("tail", "errors") and c.quick]
    subjects = [*OWN, Xloss("numpy", "float16")]
    told: list[tuple[int, int]] = []
    there = run(subjects, chosen, jobs=2, progress=lambda done, total: told.append((done, total)))
    assert compared(there) == compared(run(subjects, chosen))
    assert there.ok
    assert told == sorted(told)
    assert told[-1] == (len(chosen) * 3,) * 2


def test_a_missing_library_is_told_unless_it_was_asked_for() -> None:
    make = partial(_absent, "nolib: not installed: pip install nolib")
    report = run([OWN[0], Source("nolib", make), Source("nolib", make)], TAIL)
    assert report.missing == ["nolib: not installed: pip install nolib"]
    assert len(report.verdicts) == len(TAIL)
    assert report.ok
    with pytest.raises(Missing, match="nolib: not installed"):
        run([Source("nolib", make, required=True)], TAIL)


def _absent(why: str) -> Subject:
    raise Missing(why)


# ---- What is run ---------------------------------------------------------------------------------


def test_what_is_said_of_libraries_is_what_they_are() -> None:
    """The table of dtypes and of autodiff is for those who must not import the library."""
    seen = set()
    for subject in (s for name in ("numpy", "strict", "torch", "jax", "dask") for s in of(name)):
        here = array_library(subject.library)
        assert AUTODIFF.get(subject.library, "") == here.gradients
        seen.add((subject.library, subject.dtype))
    for library in {library for library, _ in seen}:
        mine = {dtype for name, dtype in seen if name == library}
        assert mine == set(array_library(library).dtypes)
        assert mine == set(DTYPES_OF.get(library, mine))
    assert set(known()) >= {s.name for s in OWN}


def test_without_a_name_everything_runs_that_is_here() -> None:
    assert {source.library for source in sources(Plan())} == set(LIBRARIES)
    assert {source.library for source in sources(Plan(quick=True))} == {"numpy", "strict", "torch"}
    assert not any(source.required for source in sources(Plan()))
    assert all(source.required for source in sources(Plan(backends=("cupy",))))
    assert all(case.quick for case in cases(Plan(quick=True)))
    assert not any(case.on_demand for case in cases(Plan()))
    assert {case.loss for case in cases(Plan(candidate="a:b"))} == {"cross_entropy"}
