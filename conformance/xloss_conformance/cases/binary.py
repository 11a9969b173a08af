"""The three losses of one probability an element: of logits, of probabilities, and focal."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from ..model import DTYPES, Case
from .arrays import INF, NAN, ONE, WIDE
from .binary_common import (
    CONFIDENT,
    COUNT,
    ENDS,
    ENDS_T,
    GAP,
    HARD,
    LOGITS,
    OPTAX,
    POS,
    PROBS,
    ROWS,
    SOFT,
    UPSTREAM,
    common,
    tails,
)
from .focal import NAN_BELOW_1, POWER
from .given import put
from .making import GITHUB, KERAS, NONE, SKLEARN, TORCH, made


def cases() -> Iterator[Case]:
    """Yield the three families."""
    logits = ("binary logits", "binary_cross_entropy_with_logits")
    yield from (*tails(*logits), *common(*logits, LOGITS), *_of_logits(*logits))
    probs = ("binary probabilities", "binary_cross_entropy")
    yield from (*common(*probs, PROBS), *_of_probabilities(*probs))
    focal = ("sigmoid focal", "sigmoid_focal_loss")
    yield from (*tails(*focal), *common(*focal, LOGITS), *_focal(*focal))


def _of_logits(family: str, loss: str) -> Iterator[Case]:
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


def _of_probabilities(family: str, loss: str) -> Iterator[Case]:
    case = partial(made, family, loss=loss, x=PROBS, targets=HARD, dtypes=WIDE)
    rows = partial(case, **NONE, upstream=UPSTREAM, to_targets=True)
    tiny = 2.0 ** -np.array([1, 2, 4, 8, 10, 11, 12, 16, 20, 23, 24, 24, 30, 40, 60, 80, 100, 120])
    yield rows(
        "small p, wrong",
        "PyTorch stops at 100, and its gradient at 1e12; Keras clips at 1e-7",
        x=tiny,
        targets=np.ones(COUNT),
        quick=True,
        see=(f"{TORCH}/103316", f"{KERAS}/15249", f"{GITHUB}/tensorflow/tensorflow/pull/41595"),
    )
    reason = "log(1 - p) of a small p is -p, and not 0"
    yield rows("small p, right", reason, x=tiny, targets=np.zeros(COUNT))
    yield rows(
        "p near 1",
        "1 - p is exact where p is given; -log p is 6e-8 at 1 - 2^-24",
        x=1 - np.minimum(tiny, 0.5) * (tiny >= 2.0**-24),
        see=(f"{KERAS}/9664",),
        dtypes=DTYPES,
    )
    yield rows(
        "p near a soft target",
        "(1-t)/(1-p) - t/p cancels where p is t: p - t does not",
        x=SOFT + 2.0**-20 * np.where(SOFT > 0.5, -1, 1),
        targets=SOFT,
    )
    at_ends = partial(rows, x=np.array([0, 0, 0, 1, 1, 1] * 3, np.float64))
    yield at_ends(
        "p = 0 and 1",
        "0·log 0 is 0, and certainty of the wrong answer +inf; the gradient "
        "at the right one is -1, not 0/0",
        targets=np.array([0, 1, 0.5, 0, 1, 0.5] * 3),
        quick=True,
        see=(
            f"{GITHUB}/ml-explore/mlx/pull/1280",
            f"{GITHUB}/deeplearning4j/deeplearning4j/issues/3247",
        ),
    )
    yield rows(
        "outside [0, 1]",
        "NaN, loss and gradients, and no clipping that hides it",
        x=put(PROBS, (0, 1.5), (1, 1.5), (2, -0.25), (3, -0.25), (4, INF), (5, -INF)),
        see=(f"{KERAS}/4744",),
    )
    yield rows("smoothed", "t(1-ε) + ε/2, and not t(1-ε)", label_smoothing=0.125)
    reason = "a smoothed target is never 0: +inf at both ends"
    yield at_ends("smoothed, p = 0 and 1", reason, label_smoothing=0.125)
    yield at_ends(
        "eps 1e-7",
        "1 - 1e-7 rounds to 1 - 1.19e-7 in float32: log(1 - p) is then off "
        "by 1 %; clipping twice, by 4 %",
        eps=1e-7,
        quick=True,
        see=(f"{GITHUB}/tensorflow/tensorflow/pull/41595", f"{KERAS}/377"),
    )
    yield rows("eps 1e-7, inside", "what is not clipped is exact", targets=SOFT, eps=1e-7)
    yield rows(
        "eps 1e-7, NaN",
        "a comparison with NaN is false: clipping must not make it a number",
        x=put(PROBS, (0, NAN), (1, NAN)),
        eps=1e-7,
    )
    reason = "1 - 1e-15 is 1 in float32: log(1 - p) is -inf"
    yield at_ends("eps 1e-15", reason, eps=1e-15, see=(f"{SKLEARN}/24315",))
    every = {**ROWS, "label_smoothing": 0.125, "eps": 2.0**-4}
    reason = "every option at once"
    yield case("mean, all options", reason, targets=SOFT, **every, to_targets=True)
    wrong = partial(case, dtypes=ONE, error=ValueError)
    yield wrong("error: eps", "clipped into an interval that is none", eps=0.75, names="eps")
    yield wrong(
        "error: label_smoothing",
        "targets beyond [0, 1]",
        label_smoothing=1.5,
        names="label_smoothing",
    )


def _focal(family: str, loss: str) -> Iterator[Case]:
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
