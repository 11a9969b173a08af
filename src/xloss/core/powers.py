"""Floats taken apart into a mantissa and a power of two, exactly, subnormal ones included."""

from __future__ import annotations

from typing import Any, NamedTuple

from .._arrays.context import Context
from .._arrays.inspect import Array, dtype_name


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
    xp = cx.xp
    name, width, bias = _layout(x.dtype)
    integer = getattr(xp, name)
    # By the bits where they can be read: some libraries take a subnormal for 0 in every operation.
    bits = cx.bits(x, integer)
    if bits is None:
        ordinary = xp.isfinite(x) & (x != 0)
        size = xp.floor(xp.log2(xp.where(ordinary, xp.abs(x), 1.0)))
        mantissa = xp.where(ordinary, x / 2.0**size, x)
        return Decomposed(mantissa, xp.astype(size, integer), ordinary)
    one, largest = 1 << width, 2 * bias + 1
    exponent, fraction = (bits & (largest * one)) // one, bits & (one - 1)
    ordinary = (exponent != largest) & ((exponent != 0) | (fraction != 0))
    # A subnormal is its fraction, an integer, times the smallest positive number. That integer as
    # a float is normal, and has the exponent and the fraction that are sought.
    subnormal = exponent == 0
    as_float = cx.bits(cx.cast(fraction, x.dtype), integer)
    exponent = xp.where(subnormal, as_float // one - bias + 1 - bias - width, exponent - bias)
    fraction = xp.where(subnormal, as_float & (one - 1), fraction)
    sign = bits & (-1 << (31 if width == 23 else 63))
    mantissa = cx.bits(sign | (bias * one) | fraction, x.dtype)
    exponent = xp.where(ordinary, exponent, xp.zeros_like(exponent))
    return Decomposed(xp.where(ordinary, mantissa, x), exponent, ordinary)


def power_of_2(cx: Context, exponent: Array, dtype: Any) -> Array:
    """Return 2^exponent, which must be a normal number of the dtype."""
    name, width, bias = _layout(dtype)
    bits = (cx.cast(exponent, getattr(cx.xp, name)) + bias) * (1 << width)
    made = cx.bits(bits, dtype)
    return 2.0 ** cx.xp.astype(exponent, dtype) if made is None else made
