"""Losses of one probability an element, from logits, from probabilities, and focal."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from ..model import Array, Case
from .arrays import INF, NAN, ONE, WIDE, grid
from .focal import NAN_BELOW_1, POWER
from .given import GITHUB, KERAS, SKLEARN, TORCH
from .tail import GAPS

TRAIN = f"{GITHUB}/pytorch/pytorch/pull"
OPTAX = f"{GITHUB}/google-deepmind/optax"

# Every case has 18 elements: a compiler meets one shape.
COUNT = 18
GAP = np.array(GAPS, np.float64)
HARD = (np.arange(COUNT) % 3 == 0).astype(np.float64)
SOFT = np.array([0, 1, 0.25, 0.5, 0.875, 0.125] * 3)
UPSTREAM = np.array([1.0, -2.0, 0.5, 3.0, 0.25, -1.5] * 3)
SAMPLE = np.array([1.0, 2.0, 0.5, 0.0, 3.0, 1.25] * 3)
KEEP = np.arange(COUNT) % 5 != 2
POS = np.array([1.0, 3.0, 0.5, 0.0, 2.0, 8.0] * 3)
ENDS = np.array(
    [INF, INF, INF, -INF, -INF, -INF, 1e4, -1e4, 1e4, -1e4, 0, 0, 0, 88, -88, 104, -104, 1]
)
ENDS_T = np.array([0, 1, 0.5, 0, 1, 0.5, 0, 0, 1, 1, 0, 1, 0.5, 0, 0, 1, 1, 0], np.float64)
LOGITS = grid(np.random.default_rng(18).standard_normal(COUNT) * 4)
# In 64ths, and neither 0 nor 1.
PROBS = np.random.default_rng(19).integers(1, 64, COUNT) / 64

NONE: dict[str, Any] = {"reduction": "none"}
ROWS: dict[str, Any] = {"sample_weight": SAMPLE, "where": KEEP}
CONFIDENT = "1 - p of a rounded p is 0 in float32 from a gap of 17 on, and log1p of it with it"
LIMITS = "x·t, or a gradient, of an infinite logit is inf - inf or 0·inf: NaN"


def cases() -> list[Case]:
    """Return the three families."""
    logits = ("binary logits", "binary_cross_entropy_with_logits", LOGITS)
    probs = ("binary probabilities", "binary_cross_entropy", PROBS)
    focal = ("sigmoid focal", "sigmoid_focal_loss", LOGITS)
    return [
        *_tails(*logits[:2]),
        *_common(*logits),
        *_logits(),
        *_common(*probs),
        *_probs(),
        *_errors(*probs),
        *_tails(*focal[:2]),
        *_common(*focal),
        *_focal(),
    ]


def swap(x: Array, *places: tuple[int, float]) -> Array:
    """Return a copy with (place, value) in it."""
    out = x.copy()
    for i, value in places:
        out[i] = value
    return out


def _tails(family: str, loss: str) -> Iterator[Case]:
    rows = partial(Case, family, loss=loss, options=NONE, upstream=UPSTREAM, to_targets=True)
    see = (f"{TRAIN}/66441",)
    yield rows("gaps 5 to 82, positive", CONFIDENT, GAP, np.ones(COUNT), see=see, quick=True)
    yield rows("gaps 5 to 82, negative", CONFIDENT, -GAP, np.zeros(COUNT), see=see)
    yield rows(
        "gaps 5 to 82, wrong",
        "the loss of the wrong answer is the gap: it is not 100 at most",
        np.where(HARD == 1, -GAP, GAP) * 4,
        HARD,
        see=(f"{TRAIN}/163975", f"{TRAIN}/2221"),
        dtypes=WIDE,
    )
    yield rows("gaps 5 to 82, soft", "the two terms of a soft target meet", GAP, SOFT, dtypes=WIDE)
    yield rows(
        "p = 0 and 1",
        LIMITS,
        ENDS,
        ENDS_T,
        dtypes=WIDE,
        quick=True,
        see=(f"{TORCH}/135359", f"{TORCH}/49844", f"{GITHUB}/pyro-ppl/numpyro/issues/2240"),
    )


def _common(family: str, loss: str, x: Array) -> Iterator[Case]:
    """Cases of all three."""
    case = partial(Case, family, loss=loss, dtypes=WIDE)
    rows = partial(case, options=NONE, upstream=UPSTREAM)
    yield case("mean", "the plain call", x, HARD)
    yield rows(
        "soft",
        "the gradient to a soft target is the difference of the two logarithms",
        x,
        SOFT,
        to_targets=True,
        split=True,
    )
    for layout in ("strided", "readonly"):
        yield rows(
            f"layout {layout}",
            "flat memory in another order than the targets'",
            x,
            SOFT,
            to_targets=True,
            layout=layout,
        )
    yield rows(
        "bool targets", "1 - t of a bool is an error, or is taken as not t", x, HARD > 0, dtypes=ONE
    )
    yield rows(
        "integer targets",
        "0 and 1 of any integer dtype, unsigned ones too: 0 - 1 wraps",
        x,
        HARD.astype(np.uint8),
        dtypes=ONE,
    )
    yield rows(
        "int64 targets",
        "the targets' dtype does not decide the loss's",
        x,
        HARD.astype(np.int64),
        dtypes=ONE,
    )
    yield rows(
        "integer targets of 2",
        "class indices given to a binary loss make it negative",
        x,
        np.where(np.arange(COUNT) == 4, 2, HARD).astype(np.uint8),
        dtypes=ONE,
        see=(f"{TRAIN}/177506",),
    )
    yield rows(
        "NaN",
        "NaN in that element and no other",
        swap(x, (3, NAN), (4, NAN)),
        SOFT,
        to_targets=True,
    )
    weighed = partial(case, options=ROWS, dtypes=ONE)
    yield weighed(
        "weighted mean",
        "the denominator is the sum of the weights of what is there",
        x,
        HARD,
        quick=family == "binary logits",
    )
    yield weighed(
        "weighted mean, absent NaN",
        "where=False and weight 0 contribute nothing, whatever stands there",
        swap(x, (2, NAN), (3, NAN), (9, INF), (12, -INF)),
        swap(HARD, (15, NAN), (17, -INF)),
        see=(f"{TORCH}/121416",),
    )
    yield weighed(
        "all absent",
        "0/0 is NaN; the mean over nothing is 0",
        swap(x, (4, NAN)),
        HARD,
        options={"sample_weight": SAMPLE, "where": SAMPLE == 0},
    )
    yield case("empty", "0/0 is NaN", x[:0], HARD[:0], dtypes=ONE, see=(f"{TORCH}/51906",))
    yield case(
        "sum",
        "no denominator",
        x,
        HARD,
        options={**ROWS, "reduction": "sum"},
        dtypes=ONE,
        upstream=-2.0,
    )
    yield case(
        "normalizer",
        "the count of a global batch in place of this one's",
        x,
        HARD,
        options={**ROWS, "normalizer": np.array(16.0)},
        dtypes=ONE,
    )
    yield case(
        "weights that broadcast",
        "a weight a column, and a row left out",
        x.reshape(6, 3),
        HARD.reshape(6, 3),
        dtypes=ONE,
        options={"sample_weight": np.array([1.0, 0.5, 2.0]), "where": (np.arange(6) != 2)[:, None]},
    )
    wrong = partial(
        Case,
        family,
        loss=loss,
        dtypes=ONE,
        reason="it broadcasts, and a number comes out",
        error=ValueError,
    )
    yield wrong("error: targets' shape", x=x.reshape(6, 3), targets=HARD[:6, None], names="targets")
    yield wrong(
        "error: sample_weight",
        x=x,
        targets=HARD,
        names="sample_weight",
        options={"sample_weight": np.ones((2, COUNT))},
    )
    yield wrong(
        "error: reduction", x=x, targets=HARD, names="reduction", options={"reduction": "batchmean"}
    )
    yield wrong(
        "error: where", x=x, targets=HARD, names="where", options={"where": HARD}, error=TypeError
    )


def _logits() -> Iterator[Case]:
    family, loss = "binary logits", "binary_cross_entropy_with_logits"
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


def _probs() -> Iterator[Case]:
    family, loss = "binary probabilities", "binary_cross_entropy"
    rows = partial(Case, family, loss=loss, options=NONE, upstream=UPSTREAM, to_targets=True)
    tiny = 2.0 ** -np.array([1, 2, 4, 8, 10, 11, 12, 16, 20, 23, 24, 24, 30, 40, 60, 80, 100, 120])
    clamp = "PyTorch stops at 100, and its gradient at 1e12; Keras clips at 1e-7"
    yield rows(
        "small p, wrong",
        clamp,
        tiny,
        np.ones(COUNT),
        dtypes=WIDE,
        quick=True,
        see=(f"{TORCH}/103316", f"{KERAS}/15249", f"{GITHUB}/tensorflow/tensorflow/pull/41595"),
    )
    yield rows(
        "small p, right",
        "log(1 - p) of a small p is -p, and not 0",
        tiny,
        np.zeros(COUNT),
        dtypes=WIDE,
    )
    yield rows(
        "p near 1",
        "1 - p is exact where p is given; -log p is 6e-8 at 1 - 2^-24",
        1 - np.minimum(tiny, 0.5) * (tiny >= 2.0**-24),
        HARD,
        see=(f"{KERAS}/9664",),
    )
    yield rows(
        "p near a soft target",
        "(1-t)/(1-p) - t/p cancels where p is t: p - t does not",
        SOFT + 2.0**-20 * np.where(SOFT > 0.5, -1, 1),
        SOFT,
        dtypes=WIDE,
    )
    ends = np.array([0, 0, 0, 1, 1, 1] * 3, np.float64)
    yield rows(
        "p = 0 and 1",
        "0·log 0 is 0, and certainty of the wrong answer +inf; the gradient "
        "at the right one is -1, not 0/0",
        ends,
        np.array([0, 1, 0.5, 0, 1, 0.5] * 3),
        dtypes=WIDE,
        quick=True,
        see=(
            f"{GITHUB}/ml-explore/mlx/pull/1280",
            f"{GITHUB}/deeplearning4j/deeplearning4j/issues/3247",
        ),
    )
    yield rows(
        "outside [0, 1]",
        "NaN, loss and gradients, and no clipping that hides it",
        swap(PROBS, (0, 1.5), (1, 1.5), (2, -0.25), (3, -0.25), (4, INF), (5, -INF)),
        HARD,
        dtypes=WIDE,
        see=(f"{KERAS}/4744",),
    )
    smooth = {**NONE, "label_smoothing": 0.125}
    yield rows("smoothed", "t(1-ε) + ε/2, and not t(1-ε)", PROBS, HARD, options=smooth, dtypes=WIDE)
    yield rows(
        "smoothed, p = 0 and 1",
        "a smoothed target is never 0: +inf at both ends",
        ends,
        HARD,
        options=smooth,
        dtypes=WIDE,
    )
    clipped = partial(rows, options={**NONE, "eps": 1e-7}, dtypes=WIDE)
    yield clipped(
        "eps 1e-7",
        "1 - 1e-7 rounds to 1 - 1.19e-7 in float32: log(1 - p) is then off "
        "by 1 %; clipping twice, by 4 %",
        ends,
        HARD,
        quick=True,
        see=(f"{GITHUB}/tensorflow/tensorflow/pull/41595", f"{KERAS}/377"),
    )
    yield clipped("eps 1e-7, inside", "what is not clipped is exact", PROBS, SOFT)
    yield clipped(
        "eps 1e-7, NaN",
        "a comparison with NaN is false: clipping must not make it a number",
        swap(PROBS, (0, NAN), (1, NAN)),
        HARD,
    )
    yield clipped(
        "eps 1e-15",
        "1 - 1e-15 is 1 in float32: log(1 - p) is -inf",
        ends,
        HARD,
        options={**NONE, "eps": 1e-15},
        see=(f"{SKLEARN}/24315",),
    )
    yield rows(
        "mean, all options",
        "every option at once",
        PROBS,
        SOFT,
        upstream=1.0,
        dtypes=WIDE,
        options={**ROWS, "label_smoothing": 0.125, "eps": 2.0**-4},
    )


def _focal() -> Iterator[Case]:
    rows = partial(
        Case,
        "sigmoid focal",
        loss="sigmoid_focal_loss",
        upstream=UPSTREAM,
        to_targets=True,
        dtypes=WIDE,
    )
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


def _errors(family: str, loss: str, x: Array) -> Iterator[Case]:
    wrong = partial(Case, family, loss=loss, x=x, targets=HARD, dtypes=ONE, error=ValueError)
    yield wrong(
        "error: eps", "clipped into an interval that is none", options={"eps": 0.75}, names="eps"
    )
    yield wrong(
        "error: label_smoothing",
        "targets beyond [0, 1]",
        options={"label_smoothing": 1.5},
        names="label_smoothing",
    )
