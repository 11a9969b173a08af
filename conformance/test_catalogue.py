"""The catalogue under pytest: xloss on every library of this machine, one item a family."""

from __future__ import annotations

import pytest

from xloss_conformance.cases import catalogue
from xloss_conformance.deviations import FILE, read
from xloss_conformance.libraries import LIBRARIES, array_library
from xloss_conformance.model import Case, Missing
from xloss_conformance.result import explained
from xloss_conformance.run import run
from xloss_conformance.xloss_subjects import Xloss, of, present

FAMILIES: dict[str, list[Case]] = {}
for case in catalogue():
    if not case.on_demand:
        FAMILIES.setdefault(case.family, []).append(case)


def here(library: str) -> bool:
    try:
        array_library(library)
    except Missing:
        return False
    return True


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_is_here(library: str) -> None:
    try:
        for subject in of(library):
            present(subject)
    except Missing as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "subject", [s for name in LIBRARIES if here(name) for s in of(name)], ids=lambda s: s.name
)
def test_xloss_keeps_its_contract(subject: Xloss, family: str) -> None:
    # JAX compiles every operation of every shape, minutes of it: `xloss conform` judges all cases.
    few = subject.library == "jax"
    cases = [case for case in FAMILIES[family] if case.quick or not few]
    report = run([subject], cases, deviations=read(FILE))
    if all(verdict.status == "refused" for verdict in report.verdicts):
        pytest.skip(f"{subject.name}: {report.verdicts[0].note}")
    assert not report.failures, "\n".join(explained(v) for v in report.failures)
