"""An error as a share of its own budget, by which the page colours a cell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xloss_conformance.budget import spacing
from xloss_conformance.candidates import Candidate
from xloss_conformance.cases import case
from xloss_conformance.conventions import convention
from xloss_conformance.expected import answer
from xloss_conformance.report.record import record
from xloss_conformance.run import run

CASE = case("tail/gap 17")  # one row on the grid, whose label is its first class


def off_by(value: float, label: float, other: float) -> Any:
    """Return a loss whose value and gradient are off by so many ulp of float32."""
    exact = answer(CASE, "float32")

    def moved(right: Any, ulp: Any) -> Any:
        return (right + ulp * spacing("float32", right)).astype(np.float32)

    ulp = np.zeros(exact.grad.hi.shape)
    ulp[0, 0], ulp[0, 1] = label, other

    def loss(logits: Any, targets: Any) -> tuple[Any, Any]:
        return moved(exact.value.hi, np.asarray(value)), moved(exact.grad.hi, ulp)

    return Candidate("mine", loss, convention("xloss"), "cross_entropy", "float32")


# Allowed are 4 ulp of the value and at the true class, 6 elsewhere. Rounding takes half an ulp.
@pytest.mark.parametrize(
    ("ulp", "value", "grad", "status"),
    [
        ((2, 0, 0), 2 / 4, 0, "pass"),
        ((0, 3, 0), 0, 3 / 4, "pass"),
        ((0, 0, 5), 0, 5 / 6, "pass"),
        ((0, 8, 9), 0, 8 / 4, "fail"),  # 9 ulp of 6 are a smaller share than 8 of 4
        ((0, 8, 0), 0, 8 / 4, "fail"),
        ((12, 0, 0), 12 / 4, 0, "fail"),
    ],
)
def test_the_share_is_that_of_the_entry_s_own_budget(
    ulp: tuple[float, ...], value: float, grad: float, status: str
) -> None:
    (verdict,) = run([off_by(*ulp)], [CASE]).verdicts
    assert verdict.status == status
    assert verdict.value_share == pytest.approx(value, abs=0.5 / 4)
    assert verdict.grad_share == pytest.approx(grad, abs=0.5 / 4)


def test_only_the_page_is_told_the_shares() -> None:
    report = run([off_by(1, 0, 0)], [CASE])
    (plain,) = record(report)["cells"]
    (shared,) = record(report, shares=True)["cells"]
    assert set(shared) - set(plain) == {"value_share", "grad_share"}
