"""sigmoid_focal_loss: binary cross-entropy times (1 - p)^γ."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from ..model import Case
from .arrays import ONE, WIDE
from .binary_common import (
    CONFIDENT,
    ENDS,
    ENDS_T,
    GAP,
    HARD,
    LOGITS,
    OPTAX,
    ROWS,
    SOFT,
    UPSTREAM,
    common,
    tails,
)
from .focal import NAN_BELOW_1, POWER
from .given import GITHUB
from .making import NONE, made


def cases() -> list[Case]:
    """Return the family."""
    of = ("sigmoid focal", "sigmoid_focal_loss")
    return [*tails(*of), *common(*of, LOGITS), *_own(*of)]


def _own(family: str, loss: str) -> Iterator[Case]:
    case = partial(made, family, loss=loss, x=LOGITS, targets=SOFT, dtypes=WIDE)
    rows = partial(case, **NONE, upstream=UPSTREAM, to_targets=True)
    see = (
        *NAN_BELOW_1,
        f"{GITHUB}/kornia/kornia/issues/918",
        f"{OPTAX}/issues/1267",
        f"{GITHUB}/facebookresearch/sam3/issues/575",
    )
    signed = np.where(HARD == 1, GAP, -GAP)
    for gamma in (0.0, 0.5, 1.0, 5.0):  # the others are of γ = 2
        below = gamma < 1
        dtypes = WIDE if gamma == 0.5 else ONE
        power = partial(rows, gamma=gamma, see=see if below else (), dtypes=dtypes)
        yield power(f"gamma {gamma:g}", "gamma 0 is the binary cross-entropy")
        yield power(
            f"gamma {gamma:g}, gaps 5 to 82",
            POWER if below else CONFIDENT,
            x=signed,
            targets=HARD,
            quick=gamma == 0.5,
        )
        yield power(f"gamma {gamma:g}, p = 0 and 1", POWER, x=ENDS, targets=ENDS_T)
    beyond = np.array(
        [87, 88, 90, 95, 100, 103, 104, 110, 200, 700, 708, 710, 720, 730, 740, 745, 750, 1000.0]
    )
    yield rows(
        "gamma 0.1, subnormal 1 - p",
        "(1-p)^-0.9 overflows, and inf·0 or inf comes out",
        x=np.where(HARD == 1, beyond, -beyond),
        targets=HARD,
        gamma=0.1,
    )
    reason = "α t + (1-α)(1-t): α weighs the positives, 1-α the negatives"
    yield rows("alpha 0.25", reason, alpha=0.25, quick=True)
    at_ends = partial(rows, x=ENDS, targets=ENDS_T)
    yield at_ends("alpha 0.25, p = 0 and 1", POWER, alpha=0.25)
    for alpha in (0.0, 1.0):
        reason = "weight 0 times an infinite loss"
        yield at_ends(f"alpha {alpha:g}, p = 0 and 1", reason, alpha=alpha, dtypes=ONE)
    every = {**ROWS, "gamma": 0.5, "alpha": 0.25}
    yield case("mean, all options", "every option at once", **every, to_targets=True)
    wrong = partial(case, dtypes=ONE, targets=HARD, error=ValueError)
    yield wrong("error: gamma", "p^-1 at p = 0", gamma=-1.0, names="gamma")
    reason = "torchvision's -1 for none is a weight of -1 elsewhere"
    yield wrong("error: alpha", reason, alpha=-1.0, names="alpha")
