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


def rule(function: Callable[..., Any], fixed: int = 0) -> Callable[..., Any]:
    """Return tf.custom_gradient of a function, whose last arguments, `fixed` of them, have none.

    A tape around a tf.function differentiates its graph in another graph, and that one in a third,
    where no tensor of the first is known. The function is therefore given all its tensors, and
    those of the graph that calls it, whichever they are from.
    """

    def forward(*given: Array) -> Any:
        value, backward = function(*given)
        return value, lambda *up: (*_tuple(backward(*up)), *(None,) * fixed)

    made: Any = tf.custom_gradient(forward)
    return lambda *given: made(*(given if tf.executing_eagerly() else map(tf.identity, given)))


def _tuple(a: Any) -> Any:
    return a if isinstance(a, (tuple, list)) else (a,)


def followed(
    value: Array,
    arguments: Arrays,
    formula: Formula,
    closed: Callable[[Array], Arrays] | None = None,
    fixed: Arrays = (),
) -> Array:
    """Return a value that no tape has followed as a function of its arguments.

    `formula` computes it of them and of the `fixed`, which are constants, in operations that a tape
    follows to any order. `closed` returns the first derivatives times a cotangent; without it the
    formula's are taken.
    """
    has_values, n, m = readable(value), len(arguments), len(fixed)

    def of_formula(cotangent: Array, *given: Array) -> Any:
        return gradients(lambda *a: formula(*a, *given[n:]), given[:n], cotangent)

    def first(cotangent: Array, *given: Array) -> Any:
        assert closed is not None

        def of_first(*a: Array) -> Any:
            return of_formula(*a, *given[n:])

        def second(*tangents: Array) -> Any:
            return gradients(of_first, (cotangent, *given[:n]), tangents)

        return closed(cotangent), second

    def forward(*given: Array) -> Any:
        def backward(cotangent: Array) -> Any:
            # Where a Jacobian of an eager value is traced, the cotangent has no values.
            if closed is None or (has_values and not readable(cotangent)):
                return of_formula(cotangent, *given)
            return rule(first, m)(cotangent, *given)

        return tf.identity(value), backward

    made: Array = rule(forward, m)(*arguments, *fixed)
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
