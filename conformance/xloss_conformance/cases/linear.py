"""linear_cross_entropy: matrix products around the rows, and what may leak through their sums."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from ..model import Array, Case
from ..packed import pack
from .arrays import EVERY, INF, KEEP, NAN, ONE, WIDE, W, changed, soft
from .given import UPSTREAM
from .making import NONE, made, torch

# Quarters and eighths, few and small: every logit is exact in float32 and in any order of sums.
RNG = np.random.default_rng([11, 5])
FEATURES = RNG.integers(-8, 9, (6, 4)) / 4
WEIGHT = RNG.integers(-16, 17, (5, 4)) / 8
BIAS = RNG.integers(-8, 9, 5) / 4
LABELS = np.array([0, 3, 1, 4, 2, 2])
X = pack(FEATURES, WEIGHT, BIAS)
P = soft(6, 5)
ALL = {"class_weight": W, **{k: v for k, v in EVERY.items() if k != "weight"}}


def put(*rows: int, to: float) -> Array:
    """Return the arguments with those rows of features filled."""
    return changed(X, (list(rows), slice(0, 4)), to)


def cases() -> Iterator[Case]:
    """Yield the family."""
    case = partial(made, "linear", loss="linear_cross_entropy", x=X, targets=LABELS)
    wide = partial(case, dtypes=WIDE)
    rows = partial(wide, **NONE, upstream=UPSTREAM)
    one = partial(case, dtypes=ONE)
    reason = "the gradients of the forward pass miss the denominator or the upstream"
    yield case("mean", reason, upstream=-2.0, quick=True)
    reason = "each row has its own upstream, and the logits are computed again"
    yield rows("rows", reason, quick=True)
    reason = "the weight's gradient is the last block's, not their sum"
    yield case("blocks of one row", reason, reduction="sum", block_rows=1, quick=True)
    yield case("blocks of four rows", "the last block is not full", block_rows=4)
    soft = partial(wide, targets=P, to_targets=True)
    yield soft("soft", "gradient to soft targets, and to their denominator")
    yield case("all options", "each is that of cross_entropy", **ALL)
    yield soft("soft, all options", "the same of probabilities", **ALL)
    reason = "0·NaN in the product over rows fills the weight's gradient"
    given = partial(case, x=put(1, 4, to=NAN), targets=np.array([0, -100, 1, 4, -100, 2]))
    yield given("ignored rows of NaN", reason, block_rows=4, quick=True, see=torch(20406))
    reason = "where and a sample weight of 0 leave rows out likewise"
    yield rows("absent rows of inf", reason, x=put(2, to=INF), where=KEEP)
    reason = "the mean over no row is 0, with gradient 0"
    yield one("all ignored", reason, x=put(0, to=NAN), targets=np.full(6, -100))
    reason = "all labels of class weight 0: nothing, though a row be NaN"
    given = partial(wide, x=put(3, to=NAN), targets=np.full(6, 2))
    yield given("no row weighs", reason, class_weight=np.array([1.0, 1, 0, 1, 1]))
    reason = "a logit of -inf has no share, and gradient 0"
    given = partial(wide, x=changed(X, (6, 4), -INF), targets=np.array([1, 3, 1, 4, 2, 2]))
    yield given("a class masked by its bias", reason, label_smoothing=0.125)
    bad = np.array([0, 3, -1, 4, 7, 2])
    yield rows("bad labels", "a label of -1 wraps to the last class", targets=bad)
    ahead = pack(np.array([[4.0, 1.0]]), np.array([[4.0, 1.0], [0.0, 0.0]]), np.zeros(2))
    reason = "lse - z loses 4e-8, which is there in the logits"
    yield case("one row ahead by 17", reason, x=ahead, targets=np.array([0]), quick=True)
    many = np.repeat(np.array([[256.0, *[1.0] * 131]]), 600, axis=0)
    ones = np.concatenate([np.ones((1, 132)), np.zeros((1, 132))])
    ones[1, :66] = 1.0
    reason = "16 bits hold neither 256 + 1 nor a sum of 1200ths: products are summed in 32"
    case = partial(case, targets=np.zeros(600, np.int64), x=pack(many, ones, np.array([0.0, 66.0])))
    yield case("sums of 600 rows and 132 features", reason, quick=True)
    yield one("no rows", "a matrix product over nothing is 0", x=X[6:], targets=LABELS[:0])
    for layout in ("F", "readonly"):
        reason = "a matrix in another order is read in the wrong one"
        yield one(f"layout {layout}", reason, layout=layout)
    reason = "a wrong argument broadcasts, and a number comes out"
    wrong = partial(one, reason=reason, error=ValueError)
    yield wrong("error: class_weight", class_weight=np.ones(4), names="class_weight")
    yield wrong("error: block_rows", block_rows=0, names="block_rows")
