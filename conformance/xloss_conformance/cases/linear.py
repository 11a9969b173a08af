"""linear_cross_entropy: matrix products around the rows, and what may leak through their sums."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from ..linear_packing import pack
from ..model import DTYPES, Array, Case
from .arrays import INF, KEEP, NAN, ONE, WIDE, S, changed, soft, weights

# Quarters and eighths, few and small: every logit is exact in float32 and in any order of sums.
RNG = np.random.default_rng([11, 5])
UPSTREAM = np.array([1.0, -2.0, 0.5, 3.0, 0.25, -1.5])
FEATURES = RNG.integers(-8, 9, (6, 4)) / 4
WEIGHT = RNG.integers(-16, 17, (5, 4)) / 8
BIAS = RNG.integers(-8, 9, 5) / 4
LABELS = np.array([0, 3, 1, 4, 2, 2])
X = pack(FEATURES, WEIGHT, BIAS)
P = soft(6, 5)
NONE: dict[str, Any] = {"reduction": "none"}
ALL: dict[str, Any] = {
    "class_weight": weights(5),
    "sample_weight": S,
    "where": KEEP,
    "label_smoothing": 0.125,
    "z_loss": 0.0625,
    "softcap": 8.0,
}
GITHUB = "https://github.com"


def put(*rows: int, to: float) -> Array:
    """Return the arguments with those rows of features filled."""
    return changed(X, (list(rows), slice(0, 4)), to)


def cases() -> list[Case]:
    """Return the family."""
    return list(_cases())


def _cases() -> Iterator[Case]:
    case = partial(Case, "linear", loss="linear_cross_entropy", x=X, targets=LABELS)
    ignored = np.array([0, -100, 1, 4, -100, 2])
    yield case(
        "mean",
        "the gradients of the forward pass miss the denominator or the upstream",
        upstream=-2.0,
        quick=True,
        dtypes=DTYPES,
    )
    yield case(
        "rows",
        "each row has its own upstream, and the logits are computed again",
        options=NONE,
        upstream=UPSTREAM,
        quick=True,
        dtypes=WIDE,
    )
    yield case(
        "blocks of one row",
        "the weight's gradient is the last block's, not their sum",
        options={"reduction": "sum", "block_rows": 1},
        quick=True,
    )
    yield case("blocks of four rows", "the last block is not full", options={"block_rows": 4})
    yield case(
        "soft",
        "gradient to soft targets, and to their denominator",
        targets=P,
        to_targets=True,
        dtypes=WIDE,
    )
    yield case("all options", "each is that of cross_entropy", options=ALL)
    yield case(
        "soft, all options",
        "the same of probabilities",
        targets=P,
        to_targets=True,
        options=ALL,
        dtypes=WIDE,
    )
    yield case(
        "ignored rows of NaN",
        "0·NaN in the product over rows fills the weight's gradient",
        x=put(1, 4, to=NAN),
        targets=ignored,
        options={"block_rows": 4},
        quick=True,
        see=(f"{GITHUB}/pytorch/pytorch/issues/20406",),
    )
    yield case(
        "absent rows of inf",
        "where and a sample weight of 0 leave rows out likewise",
        x=put(2, to=INF),
        options={"where": KEEP, **NONE},
        upstream=UPSTREAM,
        dtypes=WIDE,
    )
    yield case(
        "all ignored",
        "the mean over no row is 0, with gradient 0",
        x=put(0, to=NAN),
        targets=np.full(6, -100),
        dtypes=ONE,
    )
    yield case(
        "no row weighs",
        "all labels of class weight 0: nothing, though a row be NaN",
        x=put(3, to=NAN),
        targets=np.full(6, 2),
        dtypes=WIDE,
        options={"class_weight": np.array([1.0, 1, 0, 1, 1])},
    )
    yield case(
        "a class masked by its bias",
        "a logit of -inf has no share, and gradient 0",
        x=changed(X, (6, 4), -INF),
        targets=np.array([1, 3, 1, 4, 2, 2]),
        options={"label_smoothing": 0.125},
        dtypes=WIDE,
    )
    yield case(
        "bad labels",
        "a label of -1 wraps to the last class",
        options=NONE,
        upstream=UPSTREAM,
        targets=np.array([0, 3, -1, 4, 7, 2]),
        dtypes=WIDE,
    )
    yield case(
        "one row ahead by 17",
        "lse - z loses 4e-8, which is there in the logits",
        x=pack(np.array([[4.0, 1.0]]), np.array([[4.0, 1.0], [0.0, 0.0]]), np.zeros(2)),
        targets=np.array([0]),
        quick=True,
    )
    many = np.repeat(np.array([[256.0, *[1.0] * 131]]), 600, axis=0)
    ones = np.concatenate([np.ones((1, 132)), np.zeros((1, 132))])
    ones[1, :66] = 1.0
    yield case(
        "sums of 600 rows and 132 features",
        "16 bits hold neither 256 + 1 nor a sum of 1200ths: products are summed in 32",
        targets=np.zeros(600, np.int64),
        x=pack(many, ones, np.array([0.0, 66.0])),
        quick=True,
    )
    yield case(
        "no rows", "a matrix product over nothing is 0", x=X[6:], targets=LABELS[:0], dtypes=ONE
    )
    for layout in ("F", "readonly"):
        yield case(
            f"layout {layout}",
            "a matrix in another order is read in the wrong one",
            layout=layout,
            dtypes=ONE,
        )
    wrong = "a wrong argument broadcasts, and a number comes out"
    for name, value in [("class_weight", np.ones(4)), ("block_rows", 0)]:
        yield case(
            f"error: {name}", wrong, options={name: value}, error=ValueError, names=name, dtypes=ONE
        )
