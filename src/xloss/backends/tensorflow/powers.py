"""Floats taken apart by their bits: to TensorFlow's operations a subnormal number is 0."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from ..._arrays.context import Context
from ..._arrays.inspect import Array
from ...core.powers import Decomposed


def _layout(dtype: Any) -> tuple[Any, int, int]:
    """Return the integer dtype of a float's width, its bits of fraction, and its bias."""
    return (tf.int64, 52, 1023) if dtype == tf.float64 else (tf.int32, 23, 127)


def decompose(cx: Context, x: Array) -> Decomposed:
    """Take float32 or float64 numbers apart, as `core.powers.decompose` does."""
    integer, width, bias = _layout(x.dtype)
    largest, fraction_bits = 2 * bias + 1, (1 << width) - 1

    def number(n: int) -> Array:
        return tf.constant(n, integer)

    def exponents(bits: Array) -> Array:
        shifted = tf.bitwise.right_shift(bits, number(width))
        return tf.bitwise.bitwise_and(shifted, number(largest))

    def fractions(bits: Array) -> Array:
        return tf.bitwise.bitwise_and(bits, number(fraction_bits))

    bits = tf.bitcast(x, integer)
    exponent, fraction = exponents(bits), fractions(bits)
    ordinary = (exponent != largest) & ((exponent != 0) | (fraction != 0))
    # A subnormal is its fraction, an integer, times the smallest positive number. That integer as
    # a float is normal, and has the exponent and the fraction that are sought.
    subnormal = exponent == 0
    as_float = tf.bitcast(tf.cast(fraction, x.dtype), integer)
    exponent = tf.where(subnormal, exponents(as_float) - bias + 1 - bias - width, exponent - bias)
    fraction = tf.where(subnormal, fractions(as_float), fraction)
    sign = tf.bitwise.bitwise_and(bits, number(-1 << (31 if width == 23 else 63)))
    mantissa = tf.bitwise.bitwise_or(tf.bitwise.bitwise_or(sign, number(bias << width)), fraction)
    exponent = tf.where(ordinary, exponent, tf.zeros_like(exponent))
    return Decomposed(tf.where(ordinary, tf.bitcast(mantissa, x.dtype), x), exponent, ordinary)


def power_of_2(cx: Context, exponent: Array, dtype: Any) -> Array:
    """Return 2^exponent, which must be a normal number of the dtype."""
    integer, width, bias = _layout(dtype)
    exponent = tf.cast(exponent, integer)
    return tf.bitcast(tf.bitwise.left_shift(exponent + bias, tf.constant(width, integer)), dtype)
