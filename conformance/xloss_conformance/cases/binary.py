"""The three losses of one probability an element: of logits, of probabilities, and focal."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from ..model import DTYPES, Array, Case
from . import given as of_rows
from .arrays import INF, NAN, ONE, WIDE, grid
from .extremes import GAPS
from .focal import NAN_BELOW_1, POWER
from .given import put
from .making import NONE, github, keras, made, sklearn, torch

# Every case has 18 elements: a compiler meets one shape.
COUNT = 18
GAP = np.array(GAPS, np.float64)
HARD = (np.arange(COUNT) % 3 == 0).astype(np.float64)
SOFT = np.array([0, 1, 0.25, 0.5, 0.875, 0.125] * 3)
UPSTREAM, SAMPLE = np.tile(of_rows.UPSTREAM, 3), np.tile(of_rows.SAMPLE, 3)
KEEP = np.arange(COUNT) % 5 != 2
POS = np.array([1.0, 3.0, 0.5, 0.0, 2.0, 8.0] * 3)
ENDS = np.array(
    [INF, INF, INF, -INF, -INF, -INF, 1e4, -1e4, 1e4, -1e4, 0, 0, 0, 88, -88, 104, -104, 1]
)
ENDS_T = np.array([0, 1, 0.5, 0, 1, 0.5, 0, 0, 1, 1, 0, 1, 0.5, 0, 0, 1, 1, 0], np.float64)
LOGITS = grid(np.random.default_rng(18).standard_normal(COUNT) * 4)
# In 64ths, and neither 0 nor 1.
PROBS = np.random.default_rng(19).integers(1, 64, COUNT) / 64

ROWS: dict[str, Any] = {"sample_weight": SAMPLE, "where": KEEP}
CONFIDENT = "1 - p of a rounded p is 0 in float32 from a gap of 17 on, and log1p of it with it"
LIMITS = "x·t, or a gradient, of an infinite logit is inf - inf or 0·inf: NaN"


def cases() -> Iterator[Case]:
    """Yield the three families."""
    logits = ("binary logits", "binary_cross_entropy_with_logits")
    yield from (*_tails(*logits), *_common(*logits, LOGITS), *_of_logits(*logits))
    probs = ("binary probabilities", "binary_cross_entropy")
    yield from (*_common(*probs, PROBS), *_of_probabilities(*probs))
    focal = ("sigmoid focal", "sigmoid_focal_loss")
    yield from (*_tails(*focal), *_common(*focal, LOGITS), *_focal(*focal))


def _tails(family: str, loss: str) -> Iterator[Case]:
    rows = partial(made, family, loss=loss, **NONE, upstream=UPSTREAM, to_targets=True)
    tail = partial(rows, reason=CONFIDENT, see=github("pytorch/pytorch/pull/66441"))
    yield tail("gaps 5 to 82, positive", x=GAP, targets=np.ones(COUNT), quick=True)
    yield tail("gaps 5 to 82, negative", x=-GAP, targets=np.zeros(COUNT))
    rows = partial(rows, dtypes=WIDE)
    reason = "the loss of the wrong answer is the gap: it is not 100 at most"
    given = partial(rows, x=np.where(HARD == 1, -GAP, GAP) * 4, targets=HARD)
    see = github("pytorch/pytorch/pull/163975", "pytorch/pytorch/pull/2221")
    yield given("gaps 5 to 82, wrong", reason, see=see)
    yield rows("gaps 5 to 82, soft", "the two terms of a soft target meet", x=GAP, targets=SOFT)
    see = torch(135359, 49844) + github("pyro-ppl/numpyro/issues/2240")
    yield rows("p = 0 and 1", LIMITS, x=ENDS, targets=ENDS_T, quick=True, see=see)


def _common(family: str, loss: str, x: Array) -> Iterator[Case]:
    """Cases of all three."""
    case = partial(made, family, loss=loss, x=x, targets=HARD, dtypes=WIDE)
    yield case("mean", "the plain call")
    rows = partial(case, **NONE, upstream=UPSTREAM)
    soft = partial(rows, targets=SOFT, to_targets=True)
    reason = "the gradient to a soft target is the difference of the two logarithms"
    yield soft("soft", reason, split=True)
    for layout in ("strided", "readonly"):
        reason = "flat memory in another order than the targets'"
        yield soft(f"layout {layout}", reason, layout=layout)
    one = partial(rows, dtypes=ONE)
    yield one("bool targets", "1 - t of a bool is an error, or is taken as not t", targets=HARD > 0)
    reason = "0 and 1 of any integer dtype, unsigned ones too: 0 - 1 wraps"
    yield one("integer targets", reason, targets=HARD.astype(np.uint8))
    reason = "the targets' dtype does not decide the loss's"
    yield one("int64 targets", reason, targets=HARD.astype(np.int64))
    reason = "class indices given to a binary loss make it negative"
    given = partial(one, targets=np.where(np.arange(COUNT) == 4, 2, HARD).astype(np.uint8))
    yield given("integer targets of 2", reason, see=github("pytorch/pytorch/pull/177506"))
    yield soft("NaN", "NaN in that element and no other", x=put(x, (3, NAN), (4, NAN)))
    one = partial(case, dtypes=ONE)
    weighed = partial(one, **ROWS)
    reason = "the denominator is the sum of the weights of what is there"
    yield weighed("weighted mean", reason, quick=family == "binary logits")
    reason = "where=False and weight 0 contribute nothing, whatever stands there"
    nan, hidden = put(x, (2, NAN), (3, NAN), (9, INF), (12, -INF)), put(HARD, (15, NAN), (17, -INF))
    yield weighed("weighted mean, absent NaN", reason, x=nan, targets=hidden, see=torch(121416))
    reason = "0/0 is NaN; the mean over nothing is 0"
    yield weighed("all absent", reason, x=put(x, (4, NAN)), where=SAMPLE == 0)
    yield one("empty", "0/0 is NaN", x=x[:0], targets=HARD[:0], see=torch(51906))
    yield weighed("sum", "no denominator", reduction="sum", upstream=-2.0)
    reason = "the count of a global batch in place of this one's"
    yield weighed("normalizer", reason, normalizer=np.array(16.0))
    one_by_one = partial(one, x=x.reshape(6, 3), targets=HARD.reshape(6, 3))
    both = {"sample_weight": np.array([1.0, 0.5, 2.0]), "where": (np.arange(6) != 2)[:, None]}
    yield one_by_one("weights that broadcast", "a weight a column, and a row left out", **both)
    wrong = partial(one, reason="it broadcasts, and a number comes out", error=ValueError)
    columns = {"x": x.reshape(6, 3), "targets": HARD[:6, None]}
    yield wrong("error: targets' shape", **columns, names="targets")
    yield wrong("error: sample_weight", names="sample_weight", sample_weight=np.ones((2, COUNT)))
    yield wrong("error: reduction", names="reduction", reduction="batchmean")
    yield wrong("error: where", names="where", where=HARD, error=TypeError)


def _of_logits(family: str, loss: str) -> Iterator[Case]:
    case = partial(made, family, loss=loss, x=LOGITS, targets=HARD, dtypes=WIDE)
    rows = partial(case, **NONE, upstream=UPSTREAM, to_targets=True)
    smooth = partial(rows, label_smoothing=0.125)
    yield smooth("smoothed", "t(1-ε) + ε/2, and not t(1-ε)")
    yield smooth("smoothed, gaps", "smoothing leaves no target at 0 or 1", x=GAP)
    positive = partial(rows, pos_weight=POS)
    yield positive("pos_weight", "it weighs the positive term alone", targets=SOFT, quick=True)
    reason = "the linear form (1 + (w - 1)t)·softplus cancels"
    yield positive("pos_weight, gaps", reason, x=-GAP, see=torch(13773))
    reason = "weight 0 times an infinite loss"
    yield positive("pos_weight, p = 0 and 1", reason, x=ENDS, targets=ENDS_T)
    soft = partial(case, targets=SOFT)
    given = partial(soft, **ROWS, label_smoothing=0.125, pos_weight=POS)
    yield given("mean, all options", "pos_weight is no part of the denominator", to_targets=True)
    given = partial(soft, dtypes=ONE, pos_weight=np.ones(COUNT + 1))
    yield given("error: pos_weight", "one weight too many", error=ValueError, names="pos_weight")


def _of_probabilities(family: str, loss: str) -> Iterator[Case]:
    case = partial(made, family, loss=loss, x=PROBS, targets=HARD, dtypes=WIDE)
    rows = partial(case, **NONE, upstream=UPSTREAM, to_targets=True)
    tiny = 2.0 ** -np.array([1, 2, 4, 8, 10, 11, 12, 16, 20, 23, 24, 24, 30, 40, 60, 80, 100, 120])
    reason = "PyTorch stops at 100, and its gradient at 1e12; Keras clips at 1e-7"
    see = torch(103316) + keras(15249) + github("tensorflow/tensorflow/pull/41595")
    yield rows("small p, wrong", reason, x=tiny, targets=np.ones(COUNT), quick=True, see=see)
    reason = "log(1 - p) of a small p is -p, and not 0"
    yield rows("small p, right", reason, x=tiny, targets=np.zeros(COUNT))
    reason = "1 - p is exact where p is given; -log p is 6e-8 at 1 - 2^-24"
    given = partial(rows, x=1 - np.minimum(tiny, 0.5) * (tiny >= 2.0**-24))
    yield given("p near 1", reason, see=keras(9664), dtypes=DTYPES)
    given = partial(rows, x=SOFT + 2.0**-20 * np.where(SOFT > 0.5, -1, 1), targets=SOFT)
    yield given("p near a soft target", "(1-t)/(1-p) - t/p cancels where p is t: p - t does not")
    at_ends = partial(rows, x=np.array([0, 0, 0, 1, 1, 1] * 3, np.float64))
    reason = "0·log 0 is 0, the wrong answer costs +inf; the right one's gradient is -1, not 0/0"
    see = github("ml-explore/mlx/pull/1280", "deeplearning4j/deeplearning4j/issues/3247")
    certain = np.array([0, 1, 0.5, 0, 1, 0.5] * 3)
    yield at_ends("p = 0 and 1", reason, targets=certain, quick=True, see=see)
    none = put(PROBS, (0, 1.5), (1, 1.5), (2, -0.25), (3, -0.25), (4, INF), (5, -INF))
    reason = "NaN, loss and gradients, and no clipping that hides it"
    yield rows("outside [0, 1]", reason, x=none, see=keras(4744))
    yield rows("smoothed", "t(1-ε) + ε/2, and not t(1-ε)", label_smoothing=0.125)
    reason = "a smoothed target is never 0: +inf at both ends"
    yield at_ends("smoothed, p = 0 and 1", reason, label_smoothing=0.125)
    reason = "1 - 1e-7 is 1 - 1.19e-7 in float32: log(1 - p) is off by 1 %, clipped twice by 4 %"
    see = github("tensorflow/tensorflow/pull/41595") + keras(377)
    yield at_ends("eps 1e-7", reason, eps=1e-7, quick=True, see=see)
    yield rows("eps 1e-7, inside", "what is not clipped is exact", targets=SOFT, eps=1e-7)
    reason = "a comparison with NaN is false: clipping must not make it a number"
    yield rows("eps 1e-7, NaN", reason, x=put(PROBS, (0, NAN), (1, NAN)), eps=1e-7)
    reason = "1 - 1e-15 is 1 in float32: log(1 - p) is -inf"
    yield at_ends("eps 1e-15", reason, eps=1e-15, see=sklearn(24315))
    every = {**ROWS, "label_smoothing": 0.125, "eps": 2.0**-4}
    yield case("mean, all options", "every option at once", targets=SOFT, **every, to_targets=True)
    wrong = partial(case, dtypes=ONE, error=ValueError)
    yield wrong("error: eps", "clipped into an interval that is none", eps=0.75, names="eps")
    reason = "targets beyond [0, 1]"
    yield wrong("error: label_smoothing", reason, label_smoothing=1.5, names="label_smoothing")


def _focal(family: str, loss: str) -> Iterator[Case]:
    case = partial(made, family, loss=loss, x=LOGITS, targets=SOFT, dtypes=WIDE)
    rows = partial(case, **NONE, upstream=UPSTREAM, to_targets=True)
    see = NAN_BELOW_1 + github(
        "kornia/kornia/issues/918",
        "google-deepmind/optax/issues/1267",
        "facebookresearch/sam3/issues/575",
    )
    for gamma in (0.0, 0.5, 1.0, 5.0):  # the others are of γ = 2
        below = gamma < 1
        dtypes = WIDE if gamma == 0.5 else ONE
        power = partial(rows, gamma=gamma, see=see if below else (), dtypes=dtypes)
        yield power(f"gamma {gamma:g}", "gamma 0 is the binary cross-entropy")
        given = partial(power, x=np.where(HARD == 1, GAP, -GAP), targets=HARD, quick=gamma == 0.5)
        yield given(f"gamma {gamma:g}, gaps 5 to 82", POWER if below else CONFIDENT)
        yield power(f"gamma {gamma:g}, p = 0 and 1", POWER, x=ENDS, targets=ENDS_T)
    beyond = np.array(
        [87, 88, 90, 95, 100, 103, 104, 110, 200, 700, 708, 710, 720, 730, 740, 745, 750, 1000.0]
    )
    given = partial(rows, x=np.where(HARD == 1, beyond, -beyond), targets=HARD, gamma=0.1)
    yield given("gamma 0.1, subnormal 1 - p", "(1-p)^-0.9 overflows, and inf·0 or inf comes out")
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
