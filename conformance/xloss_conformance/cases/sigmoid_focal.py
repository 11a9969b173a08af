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
    NONE,
    OPTAX,
    ROWS,
    SOFT,
    UPSTREAM,
    common,
    tails,
)
from .focal import NAN_BELOW_1, POWER
from .given import GITHUB


def cases() -> list[Case]:
    """Return the family."""
    of = ("sigmoid focal", "sigmoid_focal_loss")
    return [*tails(*of), *common(*of, LOGITS), *_own(*of)]


def _own(family: str, loss: str) -> Iterator[Case]:
    rows = partial(Case, family, loss=loss, upstream=UPSTREAM, to_targets=True, dtypes=WIDE)
    see = (
        *NAN_BELOW_1,
        f"{GITHUB}/kornia/kornia/issues/918",
        f"{OPTAX}/issues/1267",
        f"{GITHUB}/facebookresearch/sam3/issues/575",
    )
    signed = np.where(HARD == 1, GAP, -GAP)
    for gamma in (0.0, 0.5, 1.0, 5.0):  # the others are of γ = 2
        power = partial(
            rows,
            options={**NONE, "gamma": gamma},
            see=see if gamma < 1 else (),
            dtypes=WIDE if gamma == 0.5 else ONE,
        )
        yield power(f"gamma {gamma:g}", "gamma 0 is the binary cross-entropy", LOGITS, SOFT)
        yield power(
            f"gamma {gamma:g}, gaps 5 to 82",
            POWER if gamma < 1 else CONFIDENT,
            signed,
            HARD,
            quick=gamma == 0.5,
        )
        yield power(f"gamma {gamma:g}, p = 0 and 1", POWER, ENDS, ENDS_T)
    beyond = np.array(
        [87, 88, 90, 95, 100, 103, 104, 110, 200, 700, 708, 710, 720, 730, 740, 745, 750, 1000.0]
    )
    yield rows(
        "gamma 0.1, subnormal 1 - p",
        "(1-p)^-0.9 overflows, and inf·0 or inf comes out",
        np.where(HARD == 1, beyond, -beyond),
        HARD,
        options={**NONE, "gamma": 0.1},
    )
    options = {**NONE, "alpha": 0.25}
    yield rows(
        "alpha 0.25",
        "α t + (1-α)(1-t): α weighs the positives, 1-α the negatives",
        LOGITS,
        SOFT,
        options=options,
        quick=True,
    )
    yield rows("alpha 0.25, p = 0 and 1", POWER, ENDS, ENDS_T, options=options)
    for alpha in (0.0, 1.0):
        yield rows(
            f"alpha {alpha:g}, p = 0 and 1",
            "weight 0 times an infinite loss",
            ENDS,
            ENDS_T,
            options={**NONE, "alpha": alpha},
            dtypes=ONE,
        )
    yield rows(
        "mean, all options",
        "every option at once",
        LOGITS,
        SOFT,
        upstream=1.0,
        options={**ROWS, "gamma": 0.5, "alpha": 0.25},
    )
    wrong = partial(
        rows, upstream=1.0, dtypes=ONE, to_targets=False, x=LOGITS, targets=HARD, error=ValueError
    )
    yield wrong("error: gamma", "p^-1 at p = 0", options={"gamma": -1.0}, names="gamma")
    yield wrong(
        "error: alpha",
        "torchvision's -1 for none is a weight of -1 elsewhere",
        options={"alpha": -1.0},
        names="alpha",
    )
