"""Floats taken apart into a mantissa and a power of two, exactly, subnormal ones included."""

from __future__ import annotations

from typing import Any, NamedTuple

from .._arrays.context import Context
from .._arrays.inspect import Array, dtype_name


def _has_bit_view(x: Array) -> bool:
    """Tell whether an array's bits can be read.

    Some libraries take a subnormal for 0 in every operation but this one. The standard has no such
    view: where there is none, and for lazy arrays, whose 0-d ones cannot be viewed, the
    standard's operations are exact.
    """
    return hasattr(x, "view") and not hasattr(x, "compute")


class Decomposed(NamedTuple):
    """x = mantissa · 2^exponent where `ordinary`; elsewhere x itself, 0, inf or NaN, and 0."""

    mantissa: Array  # in ±[1, 2)
    exponent: Array  # int32 for float32, int64 for float64
    ordinary: Array  # finite and not 0


def _layout(dtype: Any) -> tuple[str, int, int]:
    """Return the integer dtype of a float's width, its bits of fraction, and its bias."""
    return ("int64", 52, 1023) if dtype_name(dtype) == "float64" else ("int32", 23, 127)


def decompose(cx: Context, x: Array) -> Decomposed:
    """Take float32 or float64 numbers apart."""
    own = cx.own_powers
    if own is not None:
        found: Decomposed = own.decompose(cx, x)
        return found
    xp = cx.xp
    name, width, bias = _layout(x.dtype)
    integer = getattr(xp, name)
    if not _has_bit_view(x):
        ordinary = xp.isfinite(x) & (x != 0)
        size = xp.floor(xp.log2(xp.where(ordinary, xp.abs(x), 1.0)))
        mantissa = xp.where(ordinary, x / 2.0**size, x)
        return Decomposed(mantissa, xp.astype(size, integer), ordinary)
    fraction_bits = (1 << width) - 1
    bits = x.view(integer)
    exponent, fraction = (bits >> width) & (2 * bias + 1), bits & fraction_bits
    ordinary = (exponent != 2 * bias + 1) & ((exponent != 0) | (fraction != 0))
    # A subnormal is its fraction, an integer, times the smallest positive number. That integer as
    # a float is normal, and has the exponent and the fraction that are sought.
    subnormal = exponent == 0
    as_float = cx.cast(fraction, x.dtype).view(integer)
    exponent = xp.where(subnormal, (as_float >> width) - bias + 1 - bias - width, exponent - bias)
    fraction = xp.where(subnormal, as_float & fraction_bits, fraction)
    sign = bits & (-1 << (31 if width == 23 else 63))
    mantissa = (sign | (bias << width) | fraction).view(x.dtype)
    exponent = xp.where(ordinary, exponent, xp.zeros_like(exponent))
    return Decomposed(xp.where(ordinary, mantissa, x), exponent, ordinary)


def power_of_2(cx: Context, exponent: Array, dtype: Any) -> Array:
    """Return 2^exponent, which must be a normal number of the dtype."""
    own = cx.own_powers
    if own is not None:
        return own.power_of_2(cx, exponent, dtype)
    name, width, bias = _layout(dtype)
    if not _has_bit_view(exponent):
        return 2.0 ** cx.xp.astype(exponent, dtype)
    exponent = cx.cast(exponent, getattr(cx.xp, name))
    return ((exponent + bias) << width).view(dtype)
