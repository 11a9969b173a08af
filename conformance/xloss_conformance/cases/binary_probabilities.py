"""Binary cross-entropy of probabilities that are given."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from ..model import Array, Case
from .arrays import INF, NAN, ONE, WIDE
from .binary_common import (
    COUNT,
    HARD,
    NONE,
    PROBS,
    ROWS,
    SOFT,
    UPSTREAM,
    common,
    swap,
)
from .given import GITHUB, KERAS, SKLEARN, TORCH


def cases() -> list[Case]:
    """Return the family."""
    of = ("binary probabilities", "binary_cross_entropy")
    return [*common(*of, PROBS), *_own(*of), *_errors(*of, PROBS)]


def _own(family: str, loss: str) -> Iterator[Case]:
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
