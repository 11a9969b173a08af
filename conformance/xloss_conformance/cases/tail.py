"""The confident tail: the true class far ahead, where 1 + small loses the small."""

from __future__ import annotations

import numpy as np

from ..model import Case
from .arrays import S, Y, confident, one_hot

GAPS = (5, 8, 10, 12, 14, 16, 17, 18, 20, 25, 30, 36, 40, 50, 60, 70, 80, 82)
LOST = "log(1 + r) is 0 in float32 once r < 2^-24: the loss and p - 1 lose every digit"
SEE = ("https://github.com/scipy/scipy/issues/18295",)


def cases() -> list[Case]:
    """Return the family."""
    zero = np.array([0])
    found = [
        Case(
            "tail",
            f"gap {gap}",
            LOST,
            confident(gap),
            zero,
            gap=float(gap),
            quick=gap in (5, 12, 17, 40, 80),
            see=SEE,
        )
        for gap in GAPS
    ]
    found += [
        Case(
            "tail",
            f"gap {gap}, one-hot",
            "a one-hot row is its label: the same tail survives",
            confident(gap),
            one_hot(zero, 10),
            see=SEE,
        )
        for gap in (17, 40, 80)
    ]
    # Row i is confident of its own label Y[i].
    rows = np.concatenate([confident(gap, classes=5) for gap in (9, 17, 25, 40, 60, 80)])
    turned = np.stack([np.roll(row, label) for row, label in zip(rows, Y, strict=True)])
    weighted = {"sample_weight": S, "reduction": "none"}
    return [
        *found,
        Case("tail", "six gaps", LOST, turned, Y, options={"reduction": "none"}, see=SEE),
        Case("tail", "six gaps, weighted", LOST, turned, Y, options=weighted, see=SEE),
        Case(
            "tail",
            "confident and wrong",
            "the loss is the gap: it must not be clipped",
            turned,
            (Y + 1) % 5,
            options={"reduction": "none"},
        ),
    ]
