"""The confident tail: the true class far ahead, where 1 + small loses the small."""

from __future__ import annotations

from functools import partial

import numpy as np

from ..model import Case
from .arrays import S, Y, confident, one_hot
from .making import GITHUB, NONE, made

GAPS = (5, 8, 10, 12, 14, 16, 17, 18, 20, 25, 30, 36, 40, 50, 60, 70, 80, 82)
LOST = "log(1 + r) is 0 in float32 once r < 2^-24: the loss and p - 1 lose every digit"
SEE = (f"{GITHUB}/scipy/scipy/issues/18295",)


def cases() -> list[Case]:
    """Return the family."""
    case = partial(made, "tail", reason=LOST, see=SEE)
    zero = np.array([0])
    found = []
    for gap in GAPS:
        given = {"gap": float(gap), "quick": gap in (5, 12, 17, 40, 80)}
        found.append(case(f"gap {gap}", x=confident(gap), targets=zero, **given))
    hot = partial(case, reason="a one-hot row is its label: the same tail survives")
    for gap in (17, 40, 80):
        found.append(hot(f"gap {gap}, one-hot", x=confident(gap), targets=one_hot(zero, 10)))
    # Row i is confident of its own label Y[i].
    rows = np.concatenate([confident(gap, classes=5) for gap in (9, 17, 25, 40, 60, 80)])
    turned = np.stack([np.roll(row, label) for row, label in zip(rows, Y, strict=True)])
    six = partial(case, x=turned, targets=Y, **NONE)
    wrong = partial(six, reason="the loss is the gap: it must not be clipped", see=())
    return [
        *found,
        six("six gaps"),
        six("six gaps, weighted", sample_weight=S),
        wrong("confident and wrong", targets=(Y + 1) % 5),
    ]
