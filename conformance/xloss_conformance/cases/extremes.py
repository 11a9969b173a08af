"""Logits far from 0, infinite, NaN, or equal at the maximum."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..model import Array, Case
from .arrays import INF, MASKED, NAN, WIDE, P, X, Y, changed, one_hot, soft

NONE = {"reduction": "none"}
LARGEST = {"float16": 65504.0, "bfloat16": 3.38e38, "float32": 3.40e38, "float64": 1e308}


def cases() -> list[Case]:
    """Return the families."""
    return [*_offsets(), *_infinities(), *_ties()]


def _offsets() -> list[Case]:
    reason = "exp overflows, or lse - z loses the gap, unless the maximum is taken off first"
    see = (
        "https://github.com/pytorch/pytorch/issues/11752",
        "https://github.com/ml-explore/mlx/pull/4188",
    )
    found = [
        Case(
            "offsets",
            f"{offset:g}",
            reason,
            X + offset,
            Y,
            see=see,
            quick=offset in (1000, 1e8),
            dtypes=tuple(d for d, most in LARGEST.items() if abs(offset) + 16 < most),
        )
        for offset in (88, 1000, -1000, 1e4, -6e4, 1e6, 1e8, 1e30, -3e38)
    ]
    apart = np.array([[3e38, -3e38, 0, 1, 2], [0, 0, -3e38, 1, 0]])
    far = Case(
        "offsets",
        "both ends",
        "the difference of two finite logits overflows, and inf - inf",
        np.concatenate([apart, X[2:]]),
        np.array([1, 2, *Y[2:]]),
        options=NONE,
        dtypes=WIDE,
    )
    return [*found, far]


def _infinities() -> list[Case]:
    limit = "inf - inf is NaN: +inf logits share the whole probability, the limit"
    see = (
        "https://github.com/pytorch/pytorch/issues/6864",
        "https://github.com/jax-ml/jax/issues/21495",
    )

    def row(label: str, values: Any, target: int | Array, reason: str = limit, **rest: Any) -> Case:
        x = changed(X, 2, values)
        if isinstance(target, int):
            targets = changed(Y, 2, target)
        else:
            targets = changed(one_hot(Y, 5), 2, target)
        return Case(
            "infinities", label, reason, x, targets, **{"options": NONE, "see": see, **rest}
        )

    nan = "a NaN logit makes its own row NaN, no other row's loss or gradient"
    two = np.array([0, 0.25, 0, 0.75, 0])
    smoothed = {"label_smoothing": 0.1, **NONE}
    return [
        row("one, the label on it", [1, INF, 2, 0, 1], 1, quick=True),
        row("one, the label elsewhere", [1, INF, 2, 0, 1], 3),
        row("two, the label on one", [1, INF, 2, INF, 1], 3, quick=True),
        row("two, the label elsewhere", [1, INF, 2, INF, 1], 2),
        row("all", [INF] * 5, 0),
        row("with masked classes", [-INF, INF, 2, -INF, INF], 4),
        row("the label masked", [-INF, INF, 2, 1, 0], 0),
        row("mean, the label on it", [1, INF, 2, 0, 1], 1, options={}),
        row("mean, the label elsewhere", [1, INF, 2, 0, 1], 3, options={}),
        row("soft, on two of two", [1, INF, 2, INF, 1], two),
        row("soft, on one of two", [1, INF, 2, 0, 1], two),
        row("smoothed", [1, INF, 2, 0, 1], 1, options=smoothed),
        row("NaN", [1, NAN, 2, 0, 1], 3, nan, see=(), quick=True),
        row("NaN at the label", [1, NAN, 2, 0, 1], 1, nan, see=()),
        row("NaN beside inf", [1, NAN, INF, -INF, 1], 2, nan, see=()),
        row(
            "NaN under soft targets of 0",
            [1, NAN, 2, 0, 1],
            changed(two, [1, 2], [0, 0.25]),
            nan,
            see=(),
        ),
        row("NaN, smoothed", [1, NAN, 2, 0, 1], 3, nan, options=smoothed, see=()),
        row(
            "NaN, mean", [1, NAN, 2, 0, 1], 3, "the mean over a NaN row is NaN", options={}, see=()
        ),
    ]


def _ties() -> list[Case]:
    reason = "autodiff through max shares the gradient among the tied, or gives it to one"
    see = ("https://github.com/tensorflow/tensorflow/issues/127232",)
    top = X.max(axis=1)
    two = X.copy()
    two[np.arange(6), Y] = two[np.arange(6), (Y + 2) % 5] = top + 1
    wrong = (Y + 1) % 5
    three = changed(two, (slice(None), 0), top + 1)
    zeros = changed(np.zeros((6, 5)), (slice(None), 2), -0.0)
    level = np.broadcast_to(top[:, None], (6, 5))
    return [
        Case("ties", "two, the label one of them", reason, two, Y, see=see, quick=True),
        Case("ties", "two, the label elsewhere", reason, two, wrong, see=see),
        Case("ties", "three", reason, three, Y, options=NONE, see=see),
        Case("ties", "all", reason, level, Y, see=see, quick=True),
        Case("ties", "0 and -0", "-0.0 equals 0.0: a maximum by bits finds one of them", zeros, Y),
        Case("ties", "soft", reason, two, P, see=see, dtypes=WIDE),
        Case("ties", "masked", reason, np.where(MASKED == -INF, -INF, 2.5), Y, see=see),
        Case(
            "ties",
            "far above the rest",
            reason,
            np.where(two == two.max(1, keepdims=True), 40.0, two),
            Y,
            options=NONE,
            see=see,
        ),
        Case(
            "ties",
            "all, smoothed",
            reason,
            level,
            Y,
            options={"label_smoothing": 0.1},
            see=see,
            dtypes=WIDE,
        ),
        Case("ties", "all, soft", reason, level, soft(6, 5, 3), see=see, dtypes=WIDE),
    ]
