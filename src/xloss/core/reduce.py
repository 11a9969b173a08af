"""From row losses to the result: sums that lose nothing, and the mean's denominator."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any

from .._xp import Array, Context, cast, dtype_name, quiet, sum_all

# Where arrays cannot be cut into halves, as of a length that is not known while a compiler traces,
# a library adds up float32 by an operation of its own, entered here by its backend.
WHOLE: dict[str, Callable[[Array], Array]] = {}
LOWER = 2.0**-40  # of terms scaled by it a sum overflows only where the rounded sum does


def exact_sum(cx: Context, x: Array) -> Array:
    """Sum all elements in float64, or in pairs of floats where there is none.

    Finite terms of both signs whose sum overflows on the way are added again, scaled down: their
    sum is finite or infinite, never NaN.
    """
    if cx.library in WHOLE and dtype_name(cx.wide) != "float64":
        return WHOLE[cx.library](cast(cx, x, cx.wide))
    return rescued(cx, x, sum_once)


def rescued(cx: Context, x: Array, sum_once: Callable[[Context, Array], Array]) -> Array:
    """Sum, and again scaled down where the sum is not finite."""
    xp = cx.xp
    total = sum_once(cx, x)
    if cx.host:
        if isfinite(float(total)):
            return total
        with quiet(cx):
            return sum_once(cx, x * LOWER) / LOWER
    return xp.where(xp.isfinite(total), total, sum_once(cx, x * LOWER) / LOWER)


def sum_once(cx: Context, x: Array) -> Array:
    """Sum all elements; of both signs, those near the largest number may come to NaN."""
    if dtype_name(cx.wide) == "float64":
        return sum_all(cx, x)
    x = cast(cx, x, cx.wide)
    return WHOLE[cx.library](x) if cx.library in WHOLE else halved_sum(cx, x)


def halved_sum(cx: Context, x: Array) -> Array:
    """Sum all elements in pairs of floats, an array cut into halves again and again."""
    xp = cx.xp
    high = xp.reshape(x, (-1,))
    low = xp.zeros_like(high)
    while (n := high.shape[0]) > 1:
        half = n // 2
        a, b = high[:half], high[half : 2 * half]
        s = a + b
        t = s - a
        # Knuth's two-sum: s + error is a + b exactly.
        error = (a - (s - t)) + (b - t)
        carried = low[:half] + low[half : 2 * half] + xp.where(error == error, error, 0.0)
        high = xp.concat([s, high[2 * half :]])
        low = xp.concat([carried, low[2 * half :]])
    return xp.sum(high) + xp.sum(low)


def contributing(cx: Context, weight: Any, normalizer: Any | None) -> Any:
    """Return what is 0 where no row contributes to a mean.

    A part of a batch, under the normalizer of the whole, may hold nothing but rows of weight 0,
    which smoothing gives a loss.
    """
    if normalizer is None:
        return weight
    if cx.host:
        return normalizer if float(weight) == 0 else weight
    return cx.xp.where(weight == 0, normalizer, weight)


def mean(cx: Context, total: Array, weight: Any, normalizer: Any | None) -> Array:
    """Return total over the denominator; 0 where no row contributes."""
    xp = cx.xp
    weight = contributing(cx, weight, normalizer)
    if cx.host:
        if float(weight) == 0:
            return xp.zeros_like(total)
        return total / (weight if normalizer is None else normalizer)
    empty = weight == 0
    below = weight if normalizer is None else normalizer
    return xp.where(
        empty, xp.zeros_like(total), total / xp.where(empty, xp.ones_like(weight), below)
    )
