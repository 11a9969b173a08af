"""The suite itself: each planted mistake is caught by its own cases, and by nothing else."""

from __future__ import annotations

import pytest

from mutants import WITH_GRADIENT, Mutant, otherwise
from mutants.mistakes import MISTAKES
from xloss_conformance.cases import catalogue
from xloss_conformance.judge import judge

ARRAYS = "numpy", "float32"
CASES = [case for case in catalogue() if not case.on_demand]


@pytest.mark.parametrize("loss", WITH_GRADIENT)
def test_without_a_mistake_each_passes(loss: str) -> None:
    """So that it is the mistake by which a loss that is asked otherwise is caught."""
    same = Mutant("none", lambda: otherwise(lambda *asked: asked, loss), "", "", loss, *ARRAYS)
    verdicts = [judge(same.subject(), case) for case in CASES if case.loss == loss and case.quick]
    assert {v.case.name: v.findings for v in verdicts if v.failed} == {}
    assert {v.case.layout for v in verdicts if v.status == "refused"} <= {"filtered"}  # Dask's


@pytest.mark.parametrize("mistake", MISTAKES, ids=str)
def test_a_mistake_is_caught_by_a_quick_case_of_its_family(mistake: Mutant) -> None:
    subject = mistake.subject()
    family = (c for c in CASES if c.family == mistake.family and c.loss == mistake.loss and c.quick)
    found = (finding.rule for case in family for finding in judge(subject, case).findings)
    assert mistake.rule in found  # asks no case after the one that catches it


def test_every_family_of_cross_entropy_catches_one() -> None:
    families = {case.family for case in CASES if case.loss == "cross_entropy"}
    assert families == {mistake.family for mistake in MISTAKES if mistake.loss == "cross_entropy"}


def test_every_loss_has_a_mistake() -> None:
    assert {case.loss for case in CASES} == {mistake.loss for mistake in MISTAKES}
