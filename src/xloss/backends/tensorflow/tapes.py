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


def recording() -> bool:
    """Tell whether a tape records here."""
    one = tf.ones(())
    with tf.GradientTape() as tape:
        tape.watch(one)
        twice = one + one
    return tape.gradient(twice, one) is not None


def gradients(function: Callable[..., Array], arguments: Arrays, cotangent: Array) -> Any:
    """Return the derivatives of function(*arguments) times the cotangent, differentiable again."""
    if tf.executing_eagerly() or recording():
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            value = function(*arguments)
        return tape.gradient(value, arguments, cotangent, ZERO)
    arguments = tuple(map(tf.identity, arguments))  # of this graph, whichever they are from
    return tf.gradients(function(*arguments), arguments, cotangent, unconnected_gradients=ZERO)


def gradients_of_gradients(
    first_gradients: Callable[[Arrays, Array], Any],
    arguments: Arrays,
    cotangent: Array,
    *tangents: Array,
) -> Any:
    """Return the derivatives of the first gradients times the tangents.

    They are those to the cotangent and to each argument.
    """
    if recording():
        with tf.GradientTape() as tape:
            tape.watch((cotangent, *arguments))
            grads = first_gradients(arguments, cotangent)
        return tape.gradient(grads, (cotangent, *arguments), tangents, ZERO)

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def graph(arguments: Arrays, cotangent: Array, tangents: Arrays) -> Any:
        grads = first_gradients(arguments, cotangent)
        return tf.gradients(grads, (cotangent, *arguments), tangents, unconnected_gradients=ZERO)

    return graph(arguments, cotangent, tangents)
