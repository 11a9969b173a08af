"""Logits of -inf: classes that are not there."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from ..model import Case
from .arrays import INF, MASK, MASKED, ONE, P_MASKED, WIDE, S, W, X, Y, changed, logits
from .making import NONE, github, made

SMOOTHED: dict[str, Any] = {"label_smoothing": 0.1}
OPTAX = github("google-deepmind/optax/issues/896")
PYTEXT = github("facebookresearch/pytext/pull/1698")
BLOCKS = github("flashinfer-ai/flashinfer/pull/4401")


def cases() -> list[Case]:
    """Return the family."""
    return [*_cases(), *_blocks()]


def _cases() -> Iterator[Case]:
    case = partial(made, "masks", x=MASKED, targets=Y)
    plain = partial(case, reason="-inf - max is fine, -inf · 0 is not")
    yield plain("index", quick=True)
    yield plain("index, rows", **NONE)
    zero = partial(case, reason="0·inf: a masked class of target 0 is absent, not NaN", see=OPTAX)
    yield zero("soft", targets=P_MASKED, quick=True, dtypes=WIDE)
    yield zero("one-hot", targets=np.eye(5)[Y], **NONE)
    reason = "smoothing spreads over the possible classes only, else every masked row is +inf"
    smoothed = partial(case, reason=reason, **SMOOTHED, see=PYTEXT, dtypes=WIDE)
    yield smoothed("smoothed", quick=True)
    yield smoothed("smoothed, rows", **NONE)
    yield smoothed("soft, smoothed", targets=P_MASKED)
    weighted = partial(smoothed, dtypes=ONE, weight=W, sample_weight=S)
    yield weighted("weighted, smoothed")
    yield weighted("weighted, soft, smoothed", targets=P_MASKED)
    on_masked = "a target on a masked class costs +inf, and only in its own row"
    away = partial(case, reason=on_masked, targets=changed(Y, 1, 0))
    yield away("the label masked", **NONE, quick=True)
    yield away("the label masked, mean")
    yield away("the label masked, smoothed", dtypes=WIDE, **SMOOTHED, **NONE)
    soft_away = changed(P_MASKED, (1, 0), 0.25)
    yield away("soft on a masked class", targets=soft_away, **NONE, dtypes=WIDE)
    none_left = "a present row with no possible class is NaN, and no other row is"
    empty = partial(case, reason=none_left, x=changed(MASKED, 3, -INF))
    yield empty("a row all masked", **NONE, quick=True)
    yield empty("a row all masked, mean")
    yield empty("a row all masked, soft", targets=P_MASKED, **NONE, dtypes=WIDE)
    yield empty("a row all masked, smoothed", **SMOOTHED, **NONE, dtypes=WIDE)
    lone = changed(MASKED, (1, [0, 1, 2, 4]), -INF)
    certain = "loss and gradient of a certain row are exactly 0"
    yield case("one class left", certain, x=lone, **NONE)
    yield case("z-loss", "lse is of the possible classes", z_loss=0.5, dtypes=ONE)
    reason = "a finite sentinel for a mask: rows below it turn uniform or NaN"
    yield case("finite and low", reason, x=np.where(MASK, -INF, X - 3e4), see=BLOCKS)


def _blocks() -> list[Case]:
    """Rows that begin with masked classes: an online softmax meets a piece of -inf first."""
    reason = "the first block's maximum is -inf: exp(-inf - -inf) is NaN in an online softmax"
    x = logits(2, 300)
    y = np.array([299, 270])
    soft = np.zeros((2, 300))
    soft[:, [258, 270, 299]] = 0.25, 0.5, 0.25

    def case(label: str, first: int, x: Any = x, targets: Any = y, **rest: Any) -> Case:
        masked = changed(x, (slice(None), slice(first)), -INF)
        return made("masks", label, reason, x=masked, targets=targets, see=BLOCKS, **rest)

    there = "first 256 of 300, the label there"
    return [
        case("first 256 of 300", 256, quick=True),
        case("first 128 of 300", 128, **NONE),
        case("first 299 of 300", 299, targets=np.array([299, 299])),
        case("first 256 of 300, smoothed", 256, **SMOOTHED, dtypes=WIDE),
        case("first 256 of 300, soft", 256, targets=soft, dtypes=WIDE),
        case("first 1024 of 1100", 1024, logits(2, 1100), np.array([1024, 1099]), dtypes=WIDE),
        case(there, 256, targets=np.array([299, 5]), **NONE),
        case("all 300", 300, **NONE),
    ]
