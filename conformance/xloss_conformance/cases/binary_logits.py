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
    POS,
    ROWS,
    SOFT,
    UPSTREAM,
    common,
    tails,
)
from .given import TORCH
from .making import NONE, made


def cases() -> list[Case]:
    """Return the family."""
    of = ("binary logits", "binary_cross_entropy_with_logits")
    return [*tails(*of), *common(*of, LOGITS), *_own(*of)]


def _own(family: str, loss: str) -> Iterator[Case]:
    case = partial(made, family, loss=loss, x=LOGITS, targets=HARD, dtypes=WIDE)
    rows = partial(case, **NONE, upstream=UPSTREAM, to_targets=True)
    smooth = partial(rows, label_smoothing=0.125)
    yield smooth("smoothed", "t(1-ε) + ε/2, and not t(1-ε)")
    yield smooth("smoothed, gaps", "smoothing leaves no target at 0 or 1", x=GAP)
    positive = partial(rows, pos_weight=POS)
    reason = "it weighs the positive term alone"
    yield positive("pos_weight", reason, targets=SOFT, quick=True)
    reason = "the linear form (1 + (w - 1)t)·softplus cancels"
    yield positive("pos_weight, gaps", reason, x=-GAP, see=(f"{TORCH}/13773",))
    reason = "weight 0 times an infinite loss"
    yield positive("pos_weight, p = 0 and 1", reason, x=ENDS, targets=ENDS_T)
    soft = partial(case, targets=SOFT)
    yield soft(
        "mean, all options",
        "pos_weight is no part of the denominator",
        **ROWS,
        label_smoothing=0.125,
        pos_weight=POS,
        to_targets=True,
    )
    yield soft(
        "error: pos_weight",
        "one weight too many",
        dtypes=ONE,
        pos_weight=np.ones(COUNT + 1),
        error=ValueError,
        names="pos_weight",
    )
