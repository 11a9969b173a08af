"""Logits of -inf: classes that are not there."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..model import Case
from .arrays import INF, MASK, MASKED, ONE, P_MASKED, WIDE, S, W, X, Y, changed, logits, one_hot

NONE = {"reduction": "none"}
SMOOTHED = {"label_smoothing": 0.1}
ZERO = "0·inf: a masked class of target 0 is absent, not NaN"
UNIFORM = "smoothing spreads over the possible classes only, else every masked row is +inf"
OPTAX = ("https://github.com/google-deepmind/optax/issues/896",)
PYTEXT = ("https://github.com/facebookresearch/pytext/pull/1698",)
BLOCKS = ("https://github.com/flashinfer-ai/flashinfer/pull/4401",)


def cases() -> list[Case]:
    """Return the family."""
    on_masked = "a target on a masked class costs +inf, and only in its own row"
    none_left = "a present row with no possible class is NaN, and no other row is"
    empty = changed(MASKED, 3, -INF)
    lone = changed(MASKED, (1, [0, 1, 2, 4]), -INF)
    away = changed(Y, 1, 0)
    soft_away = changed(P_MASKED, (1, 0), 0.25)

    def case(label: str, reason: str, x: Any, t: Any, **rest: Any) -> Case:
        return Case("masks", label, reason, x, t, **rest)

    return [
        case("index", "-inf - max is fine, -inf · 0 is not", MASKED, Y, quick=True),
        case("index, rows", "-inf - max is fine, -inf · 0 is not", MASKED, Y, options=NONE),
        case("soft", ZERO, MASKED, P_MASKED, see=OPTAX, quick=True, dtypes=WIDE),
        case("one-hot", ZERO, MASKED, one_hot(Y, 5), see=OPTAX, options=NONE),
        case("smoothed", UNIFORM, MASKED, Y, options=SMOOTHED, see=PYTEXT, quick=True, dtypes=WIDE),
        case(
            "smoothed, rows",
            UNIFORM,
            MASKED,
            Y,
            options={**SMOOTHED, **NONE},
            see=PYTEXT,
            dtypes=WIDE,
        ),
        case(
            "soft, smoothed", UNIFORM, MASKED, P_MASKED, options=SMOOTHED, see=PYTEXT, dtypes=WIDE
        ),
        case(
            "weighted, smoothed",
            UNIFORM,
            MASKED,
            Y,
            see=PYTEXT,
            dtypes=ONE,
            options={**SMOOTHED, "weight": W, "sample_weight": S},
        ),
        case(
            "weighted, soft, smoothed",
            UNIFORM,
            MASKED,
            P_MASKED,
            see=PYTEXT,
            dtypes=ONE,
            options={**SMOOTHED, "weight": W, "sample_weight": S},
        ),
        case("the label masked", on_masked, MASKED, away, options=NONE, quick=True),
        case("the label masked, mean", on_masked, MASKED, away),
        case(
            "the label masked, smoothed",
            on_masked,
            MASKED,
            away,
            dtypes=WIDE,
            options={**SMOOTHED, **NONE},
        ),
        case("soft on a masked class", on_masked, MASKED, soft_away, options=NONE, dtypes=WIDE),
        case("a row all masked", none_left, empty, Y, options=NONE, quick=True),
        case("a row all masked, mean", none_left, empty, Y),
        case("a row all masked, soft", none_left, empty, P_MASKED, options=NONE, dtypes=WIDE),
        case(
            "a row all masked, smoothed",
            none_left,
            empty,
            Y,
            options={**SMOOTHED, **NONE},
            dtypes=WIDE,
        ),
        case(
            "one class left",
            "loss and gradient of a certain row are exactly 0",
            lone,
            Y,
            options=NONE,
        ),
        case(
            "z-loss",
            "lse is of the possible classes",
            MASKED,
            Y,
            options={"z_loss": 0.5},
            dtypes=ONE,
        ),
        case(
            "finite and low",
            "a finite sentinel for a mask: rows below it turn uniform or NaN",
            np.where(MASK, -INF, X - 3e4),
            Y,
            see=BLOCKS,
        ),
        *_blocks(),
    ]


def _blocks() -> list[Case]:
    """Rows that begin with masked classes: an online softmax meets a piece of -inf first."""
    reason = "the first block's maximum is -inf: exp(-inf - -inf) is NaN in an online softmax"
    x = logits(2, 300)
    y = np.array([299, 270])
    soft = np.zeros((2, 300))
    soft[:, [258, 270, 299]] = 0.25, 0.5, 0.25

    def case(label: str, first: int, x: Any = x, t: Any = y, **rest: Any) -> Case:
        masked = x.copy()
        masked[:, :first] = -INF
        return Case("masks", label, reason, masked, t, see=BLOCKS, **rest)

    wide = logits(2, 1100)
    return [
        case("first 256 of 300", 256, quick=True),
        case("first 128 of 300", 128, options=NONE),
        case("first 299 of 300", 299, t=np.array([299, 299])),
        case("first 256 of 300, smoothed", 256, options=SMOOTHED, dtypes=WIDE),
        case("first 256 of 300, soft", 256, t=soft, dtypes=WIDE),
        case("first 1024 of 1100", 1024, wide, np.array([1024, 1099]), dtypes=WIDE),
        case("first 256 of 300, the label there", 256, t=np.array([299, 5]), options=NONE),
        case("all 300", 300, options=NONE),
    ]
