"""Floats taken apart into a mantissa and a power of two, exactly, subnormal ones included."""

from __future__ import annotations

from typing import Any, NamedTuple

from .._arrays.context import Context
from .._arrays.inspect import Array, dtype_name


def _seen(x: Array) -> bool:
    """Tell whether an array's bits can be read: for some, every operation takes a subnormal for 0.

    The standard has no such view. Where there is none, and of lazy arrays, which view nothing of
    no dimension, what the standard has is exact.
    """
    return hasattr(x, "view") and not hasattr(x, "compute")


class Split(NamedTuple):
    """x = mantissa · 2^exponent where `ordinary`; elsewhere 0, inf or NaN as it was, and 0."""

    mantissa: Array  # in ±[1, 2)
    exponent: Array  # int32, or int64 of a float64
    ordinary: Array


def _layout(dtype: Any) -> tuple[str, int, int]:
    """Return the integer dtype of a float's width, its bits of fraction, and its bias."""
    return ("int64", 52, 1023) if dtype_name(dtype) == "float64" else ("int32", 23, 127)


def split(cx: Context, x: Array) -> Split:
    """Take float32 or float64 numbers apart."""
    xp = cx.xp
    name, width, bias = _layout(x.dtype)
    kind = getattr(xp, name)
    if not _seen(x):
        ordinary = xp.isfinite(x) & (x != 0)
        size = xp.floor(xp.log2(xp.where(ordinary, xp.abs(x), 1.0)))
        return Split(xp.where(ordinary, x / 2.0**size, x), xp.astype(size, kind), ordinary)
    low = (1 << width) - 1
    bits = x.view(kind)
    exponent, fraction = (bits >> width) & (2 * bias + 1), bits & low
    ordinary = (exponent != 2 * bias + 1) & ((exponent != 0) | (fraction != 0))
    # A subnormal is its fraction, a whole number, times the smallest of all.
    tiny = exponent == 0
    whole = cx.cast(fraction, x.dtype).view(kind)
    exponent = xp.where(tiny, (whole >> width) - bias + 1 - bias - width, exponent - bias)
    fraction = xp.where(tiny, whole & low, fraction)
    sign = bits & (-1 << (31 if width == 23 else 63))
    made = (sign | (bias << width) | fraction).view(x.dtype)
    exponent = xp.where(ordinary, exponent, xp.zeros_like(exponent))
    return Split(xp.where(ordinary, made, x), exponent, ordinary)


def power(cx: Context, exponent: Array, dtype: Any) -> Array:
    """Return 2^exponent, which must be a normal number of the dtype."""
    name, width, bias = _layout(dtype)
    if not _seen(exponent):
        return 2.0 ** cx.xp.astype(exponent, dtype)
    exponent = cx.cast(exponent, getattr(cx.xp, name))
    return ((exponent + bias) << width).view(dtype)
