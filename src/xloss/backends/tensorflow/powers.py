"""Floats taken apart by their bits: to TensorFlow's operations a subnormal number is 0."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from ..._arrays.context import Context
from ..._arrays.inspect import Array
from ...core.powers import Decomposed


def _layout(dtype: Any) -> tuple[Any, int, int]:
    return (tf.int64, 52, 1023) if dtype == tf.float64 else (tf.int32, 23, 127)


def decompose(cx: Context, x: Array) -> Decomposed:
    """Take float32 or float64 numbers apart, as `core.powers.decompose` does."""
    kind, width, bias = _layout(x.dtype)
    most, low = 2 * bias + 1, (1 << width) - 1

    def number(n: int) -> Array:
        return tf.constant(n, kind)

    def exponents(bits: Array) -> Array:
        shifted = tf.bitwise.right_shift(bits, number(width))
        return tf.bitwise.bitwise_and(shifted, number(most))

    def fractions(bits: Array) -> Array:
        return tf.bitwise.bitwise_and(bits, number(low))

    bits = tf.bitcast(x, kind)
    exponent, fraction = exponents(bits), fractions(bits)
    ordinary = (exponent != most) & ((exponent != 0) | (fraction != 0))
    # A subnormal is its fraction, a whole number, times the smallest of all.
    tiny = exponent == 0
    whole = tf.bitcast(tf.cast(fraction, x.dtype), kind)
    exponent = tf.where(tiny, exponents(whole) - bias + 1 - bias - width, exponent - bias)
    fraction = tf.where(tiny, fractions(whole), fraction)
    sign = tf.bitwise.bitwise_and(bits, number(-1 << (31 if width == 23 else 63)))
    made = tf.bitwise.bitwise_or(tf.bitwise.bitwise_or(sign, number(bias << width)), fraction)
    exponent = tf.where(ordinary, exponent, tf.zeros_like(exponent))
    return Decomposed(tf.where(ordinary, tf.bitcast(made, x.dtype), x), exponent, ordinary)


def power_of_2(cx: Context, exponent: Array, dtype: Any) -> Array:
    """Return 2^exponent, which must be a normal number of the dtype."""
    kind, width, bias = _layout(dtype)
    exponent = tf.cast(exponent, kind)
    return tf.bitcast(tf.bitwise.left_shift(exponent + bias, tf.constant(width, kind)), dtype)
