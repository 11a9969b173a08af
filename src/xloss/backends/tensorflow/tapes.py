"""Derivatives by TensorFlow's own autodiff, also where its tapes do not record.

While TensorFlow computes the forward-mode derivative of a custom gradient, by differentiating the
gradient, no tape records: the derivative of what a tape should have followed would silently be 0.
The derivatives of a graph need no tape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from ..._arrays.inspect import Array

ZERO = tf.UnconnectedGradients.ZERO
Arrays = tuple[Array, ...]
Formula = Callable[..., Array]


def readable(*tensors: Any) -> bool:
    """Tell whether values can be read: a tensor that tf.function traces has none yet."""
    return tf.executing_eagerly() and not any(
        tf.is_tensor(a) and tf.is_symbolic_tensor(a) for a in tensors
    )


def followed(
    value: Array,
    arguments: Arrays,
    formula: Formula,
    closed: Callable[[Array], Arrays] | None = None,
) -> Array:
    """Return a value that no tape has followed as a function of its arguments.

    `formula` computes it of them in operations that a tape follows to any order. `closed` returns
    the first derivatives times a cotangent; without it the formula's are taken.
    """
    has_values = readable(value)

    def of_formula(cotangent: Array, *arguments: Array) -> Any:
        return gradients(formula, arguments, cotangent)

    def first(cotangent: Array, *arguments: Array) -> Any:
        assert closed is not None

        def second(*tangents: Array) -> Any:
            return gradients(of_formula, (cotangent, *arguments), tangents)

        return closed(cotangent), second

    def forward(*arguments: Array) -> Any:
        def backward(cotangent: Array) -> Any:
            # Where a Jacobian of an eager value is traced, the cotangent has no values.
            if closed is None or (has_values and not readable(cotangent)):
                return of_formula(cotangent, *arguments)
            return tf.custom_gradient(first)(cotangent, *arguments)

        return tf.identity(value), backward

    made: Array = tf.custom_gradient(forward)(*arguments)
    return made


def recording() -> bool:
    """Tell whether a tape records here."""
    one = tf.ones(())
    with tf.GradientTape() as tape:
        tape.watch(one)
        twice = one + one
    return tape.gradient(twice, one) is not None


def gradients(function: Callable[..., Any], arguments: Arrays, cotangents: Any) -> Any:
    """Return the derivatives of function(*arguments) times the cotangents, differentiable again."""
    if recording():
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            value = function(*arguments)
        return tape.gradient(value, arguments, cotangents, ZERO)
    if tf.executing_eagerly():
        return tf.function(gradients, autograph=False)(function, arguments, cotangents)
    arguments = tuple(map(tf.identity, arguments))  # of this graph, whichever they are from
    return tf.gradients(function(*arguments), arguments, cotangents, unconnected_gradients=ZERO)
