"""The suite itself: right losses pass every case, and each planted mistake is caught by its own."""

from __future__ import annotations

from itertools import product

import pytest

from mutants import Mutant, candidate
from mutants.mistakes import MISTAKES, RIGHT
from nightly import core
from xloss_conformance.cases import catalogue
from xloss_conformance.judge import judge
from xloss_conformance.model import DTYPES

CASES = [case for case in catalogue() if not case.on_demand]


@pytest.mark.parametrize(
    ("loss", "dtype"),
    core(
        product(RIGHT, DTYPES),
        lambda loss, dtype: loss == "cross_entropy" or dtype in ("float32", "float64"),
    ),
)
def test_a_right_loss_passes(loss: str, dtype: str) -> None:
    subject = candidate("right", RIGHT[loss](), "numpy", loss, dtype)
    cases = [case for case in CASES if case.loss == loss and dtype in case.dtypes]
    verdicts = [judge(subject, case) for case in cases]
    assert {v.case.name: v.findings for v in verdicts if v.failed} == {}
    eager = [v for v in verdicts if v.case.layout != "filtered"]  # Dask's alone
    refused = {v.case.name: v.note for v in eager if v.status == "refused"}
    if loss == "cross_entropy":
        assert refused == {}
    assert len(refused) < len(cases) or dtype in ("float16", "bfloat16")


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
