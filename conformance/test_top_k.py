"""The definition of a loss of few classes a row, against numbers found by hand and differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xloss_conformance.oracle import mp
from xloss_conformance.top_k import IGNORED, pack, row, slots, written_out


def test_a_row_by_hand() -> None:
    # p = (1/4, 3/4); what class 0 gains class 1 loses, so that the slope is log 4 - log 4/3.
    made = row([0.0, mp.log(3)], pack([[0]], np.array([[0.5]]))[0], "uniform", sample_weight=2.0)
    assert mp.almosteq(made.loss, mp.log(4) + mp.log(mp.mpf(4) / 3), 1e-70)
    assert made.weight == 2
    assert made.grad_targets[0] == 0
    assert mp.almosteq(made.grad_targets[1], 2 * mp.log(3), 1e-70)
    assert made.weight_grad_targets == [0, 0]
    alone = row([0.0, mp.log(3)], pack([[0]], np.array([[0.5]]))[0], sample_weight=2.0)
    assert mp.almosteq(alone.loss, mp.log(4), 1e-70)
    assert alone.weight == 1
    assert mp.almosteq(alone.grad_targets[1], 2 * mp.log(4), 1e-70)


@pytest.mark.parametrize("rest", ["zero", "uniform"])
def test_slopes_are_differences(rest: str) -> None:
    x, t = [1.0, -0.5, 2.0, 0.25, -1.0], pack([[2, 0, 2]], np.array([[0.25, 0.125, 0.25]]))[0]
    options: dict[str, Any] = {"sample_weight": 1.5, "label_smoothing": 0.125, "z_loss": 0.5}
    options |= {"softcap": 4.0, "weight": [1.0, 2.0, 0.5, 1.5, 1.0]}
    made = row(x, t, rest, **options)
    h = 2.0**-20
    for slot in range(3, 6):
        up, down = t.copy(), t.copy()
        up[slot] += h
        down[slot] -= h
        a, b = row(x, up, rest, **options), row(x, down, rest, **options)
        for name, slope in (("loss", made.grad_targets), ("weight", made.weight_grad_targets)):
            difference = (getattr(a, name) - getattr(b, name)) / (2 * h)
            assert abs(difference - slope[slot]) < 1e-10


def test_a_list_is_written_out() -> None:
    t = pack([[1, IGNORED, 1], [0, 2, 3]], np.array([[0.25, np.nan, 0.25], [0.5, 0.0, 0.25]]))
    assert slots(t)[0].tolist() == [[1, -100, 1], [0, 2, 3]]
    possible = np.array([[True] * 4, [True, True, False, True]])
    zero, even = (written_out(t, 4, possible, rest) for rest in ("zero", "uniform"))
    assert zero.tolist() == [[0, 0.5, 0, 0], [0.5, 0, 0, 0.25]]
    sixth = 0.5 / 3
    assert even.tolist() == [[sixth, 0.5, sixth, sixth], [0.5, 0.25, 0, 0.25]]
