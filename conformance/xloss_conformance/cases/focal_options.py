"""focal_loss under the options that all losses have, and what it must refuse."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from ..model import Case
from .arrays import INF, NAN, ONE, WIDE, soft
from .focal import X, options, rows
from .given import (
    GITHUB,
    LABELS,
    LEFT_OUT,
    NOTHING,
    ROWS,
    TORCH,
    UPSTREAM,
    WEIGHT,
    WEIGHTLESS,
    of_any_shape,
    put,
)
from .making import NONE


def cases() -> list[Case]:
    """Return the rest of the family."""
    return [*_options(), *_errors()]


def _options() -> Iterator[Case]:
    t = soft(6, 5, seed=2)
    yield options("default", "γ = 2, the mean over the rows that are there")
    yield options("all ignored", NOTHING, targets=np.full(6, -100), see=(f"{TORCH}/70348",))
    case = partial(options, dtypes=ONE)
    yield case("empty", "0/0 is NaN", x=X[:0], targets=LABELS[:0])
    one = rows(
        "one class", "p = 1 and 1 - p = 0, exactly", gamma=0.5, x=X[:, :1], targets=LABELS * 0
    )
    yield one
    weighed = partial(case, weight=WEIGHT, **ROWS)
    yield weighed(
        "weighted mean",
        "a class weight applied twice, or inside p",
        quick=True,
        see=(
            f"{GITHUB}/mathiaszinnen/focal_loss_torch/issues/13",
            f"{GITHUB}/marcdcfischer/PUNet/issues/1",
        ),
    )
    yield weighed("weighted mean, absent NaN", LEFT_OUT, x=put(X, (2, 2, NAN), (3, 3, NAN)))
    light = partial(weighed, weight=WEIGHT * (WEIGHT != 1.5))
    yield light("no row weighs", WEIGHTLESS, x=put(X, (1, 4, NAN)), targets=np.full(6, 4))
    smooth = partial(case, **NONE, label_smoothing=0.125, upstream=UPSTREAM)
    yield smooth("smoothed", "the mixture over classes, each with its own (1-p)^γ")
    masked = put(X, (0, 1, -INF), (1, 0, -INF), (1, 2, -INF))
    yield smooth("smoothed, masked", "no share for a masked class", x=masked)
    every = partial(weighed, label_smoothing=0.125, gamma=0.5)
    yield every("sum, all options", "every option at once", reduction="sum", upstream=-2.0)
    yield every(
        "soft mean, all options",
        "the denominator is a function of soft targets",
        targets=t,
        to_targets=True,
        dtypes=WIDE,
    )
    capped = partial(case, softcap=5.0, **NONE, upstream=UPSTREAM)
    yield capped("softcap", "tanh's derivative as 1 - tanh² is 0 from 10 on", x=X * 8)
    masked = put(X, (0, 1, -INF), (1, 0, -INF))
    yield capped("softcap, masked", "c·tanh(-inf/c) is -c: the masked class comes back", x=masked)
    reason = "the number of objects of the whole batch in place of the rows"
    yield from of_any_shape(case, X, t, reason)


def _errors() -> Iterator[Case]:
    wrong = "a wrong argument broadcasts, and a number comes out"
    case = partial(options, dtypes=ONE, error=ValueError)
    gamma = partial(case, names="gamma")
    yield gamma("error: gamma", "(1-p)^-1 is infinite where it should be 0", gamma=-1.0)
    yield gamma("error: gamma a word", wrong, gamma="2", error=TypeError)
    yield case("error: softcap", "a bound of 0", softcap=0.0, names="softcap")
    yield case("error: labels' shape", wrong, targets=LABELS[:, None], names="targets")
    yield case("error: weight", wrong, weight=np.ones(6), names="weight")
