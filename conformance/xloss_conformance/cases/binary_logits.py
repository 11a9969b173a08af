"""Binary cross-entropy of logits."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from ..model import Case
from .arrays import ONE, WIDE
from .binary_common import (
    COUNT,
    ENDS,
    ENDS_T,
    GAP,
    HARD,
    LOGITS,
    NONE,
    POS,
    ROWS,
    SOFT,
    UPSTREAM,
    common,
    tails,
)
from .given import TORCH


def cases() -> list[Case]:
    """Return the family."""
    of = ("binary logits", "binary_cross_entropy_with_logits")
    return [*tails(*of), *common(*of, LOGITS), *_own(*of)]


def _own(family: str, loss: str) -> Iterator[Case]:
    rows = partial(Case, family, loss=loss, upstream=UPSTREAM, dtypes=WIDE, to_targets=True)
    smooth = {**NONE, "label_smoothing": 0.125}
    yield rows("smoothed", "t(1-ε) + ε/2, and not t(1-ε)", LOGITS, HARD, options=smooth)
    yield rows("smoothed, gaps", "smoothing leaves no target at 0 or 1", GAP, HARD, options=smooth)
    positive = {**NONE, "pos_weight": POS}
    yield rows(
        "pos_weight",
        "it weighs the positive term alone",
        LOGITS,
        SOFT,
        options=positive,
        quick=True,
    )
    yield rows(
        "pos_weight, gaps",
        "the linear form (1 + (w - 1)t)·softplus cancels",
        -GAP,
        HARD,
        options=positive,
        see=(f"{TORCH}/13773",),
    )
    yield rows(
        "pos_weight, p = 0 and 1", "weight 0 times an infinite loss", ENDS, ENDS_T, options=positive
    )
    every = {**ROWS, "label_smoothing": 0.125, "pos_weight": POS}
    yield rows(
        "mean, all options",
        "pos_weight is no part of the denominator",
        LOGITS,
        SOFT,
        options=every,
        upstream=1.0,
    )
    yield rows(
        "error: pos_weight",
        "one weight too many",
        LOGITS,
        SOFT,
        upstream=1.0,
        dtypes=ONE,
        options={"pos_weight": np.ones(COUNT + 1)},
        error=ValueError,
        names="pos_weight",
        to_targets=False,
    )
