"""From row losses to the result: sums that lose nothing, and the mean's denominator."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any

from .._arrays.context import Context
from .._arrays.inspect import Array, dtype_name

# Terms multiplied by this power of 2 have partial sums that overflow only where the whole sum,
# multiplied back, does.
OVERFLOW_SCALE = 2.0**-40


def exact_sum(cx: Context, x: Array) -> Array:
    """Sum all elements in float64, or in pairs of floats where the device has no float64.

    Finite terms of both signs may overflow on the way to a finite sum, and come to inf - inf.
    A sum that is not finite is therefore repeated with terms scaled down: that of finite terms is
    finite or infinite, never NaN.
    """
    if dtype_name(cx.sum_dtype) != "float64":
        own = cx.own_sum(cx.cast(x, cx.sum_dtype))
        if own is not None:
            return own
    return rescued(cx, x, sum_once)


def rescued(cx: Context, x: Array, sum_once: Callable[[Context, Array], Array]) -> Array:
    """Sum by `sum_once`, and once more scaled down where the sum is not finite."""
    xp = cx.xp
    total = sum_once(cx, x)
    if cx.on_host:
        if isfinite(float(total)):
            return total
        with cx.quiet():
            return sum_once(cx, x * OVERFLOW_SCALE) / OVERFLOW_SCALE
    scaled = sum_once(cx, x * OVERFLOW_SCALE) / OVERFLOW_SCALE
    return xp.where(xp.isfinite(total), total, scaled)


def sum_once(cx: Context, x: Array) -> Array:
    """Sum all elements; terms of both signs near the largest number may come to NaN."""
    if dtype_name(cx.sum_dtype) == "float64":
        return cx.sum_all(x)
    x = cx.cast(x, cx.sum_dtype)
    own = cx.own_sum(x)
    return halved_sum(cx, x) if own is None else own


def halved_sum(cx: Context, x: Array) -> Array:
    """Sum all elements in pairs of floats."""
    high, low = paired_sum(cx, x)
    return high + low


def paired_sum(cx: Context, x: Array) -> tuple[Array, Array]:
    """Sum all elements into a pair of floats, cutting the array into halves again and again."""
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
    return xp.sum(high), xp.sum(low)


def contributing(cx: Context, weight: Any, normalizer: Any | None) -> Any:
    """Return a number that is 0 exactly where no row contributes to a mean.

    `weight` is the sum of the row weights. Under a normalizer it may be 0 although rows
    contribute: smoothing gives a loss even to a row whose label has class weight 0.
    """
    if normalizer is None:
        return weight
    if cx.on_host:
        return normalizer if float(weight) == 0 else weight
    return cx.xp.where(weight == 0, normalizer, weight)


def mean(cx: Context, total: Array, weight: Any, normalizer: Any | None) -> Array:
    """Return the total over the mean's denominator, 0 where no row contributes.

    `weight` is the sum of the row weights, the denominator unless there is a normalizer.
    """
    xp = cx.xp
    weight = contributing(cx, weight, normalizer)
    if cx.on_host:
        if float(weight) == 0:
            return xp.zeros_like(total)
        return total / (weight if normalizer is None else normalizer)
    empty = weight == 0
    denominator = weight if normalizer is None else normalizer
    return xp.where(
        empty, xp.zeros_like(total), total / xp.where(empty, xp.ones_like(weight), denominator)
    )
