"""Derivatives by TensorFlow's own autodiff, also where its tapes do not record.

They do not while it makes the forward-mode derivative of a custom gradient, by differentiating the
gradient: what a tape would have followed there comes out as 0, silently. A graph's own derivatives
need no tape.
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


def gradients(function: Callable[..., Array], given: Arrays, cotangent: Array) -> Any:
    """Return the derivatives of function(*given) times `up`, to be differentiated again."""
    if tf.executing_eagerly() or recording():
        with tf.GradientTape() as tape:
            tape.watch(given)
            value = function(*given)
        return tape.gradient(value, given, cotangent, ZERO)
    given = tuple(map(tf.identity, given))  # in this graph, whatever graph they came from
    return tf.gradients(function(*given), given, cotangent, unconnected_gradients=ZERO)


def gradients_of_gradients(
    first: Callable[[Arrays, Array], Any], given: Arrays, cotangent: Array, *tangents: Array
) -> Any:
    """Return the derivatives of first(given, up) times the tangents, to `up` and to each given."""
    if recording():
        with tf.GradientTape() as tape:
            tape.watch((cotangent, *given))
            grads = first(given, cotangent)
        return tape.gradient(grads, (cotangent, *given), tangents, ZERO)

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def graph(given: Arrays, cotangent: Array, tangents: Arrays) -> Any:
        grads = first(given, cotangent)
        return tf.gradients(grads, (cotangent, *given), tangents, unconnected_gradients=ZERO)

    return graph(given, cotangent, tangents)
