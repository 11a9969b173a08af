"""TensorFlow: softmax and sigmoid with derivative rules of their own, and rows that use them.

Each rule computes what it needs again through the function that it belongs to: a derivative of a
derivative then takes the same rule, and never the derivative of a maximum, which is wrong on ties.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import tensorflow as tf

from ..._arrays.context import Context, context, functional
from ..._arrays.inspect import Array
from ...core import elementwise as binary
from ...core import softmax
from ...core.family import SOFTMAX_KINDS, formula_gradients
from ...core.options import Cotangent, Operands, Options, Outputs
from ...engines import choose
from . import namespace as xp
from . import tapes


def _context(x: Array) -> Context:
    return functional(context(x, xp))


def softmax_parts(z: Array) -> softmax.SoftmaxParts:
    """Return softmax.parts of a tensor, differentiable to any order."""
    return softmax.SoftmaxParts(*_softmax_parts(z))


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _softmax_parts(z: Array) -> Any:
    got = softmax.parts(z, _context(z))

    def back(lse: Array, nll: Array, p: Array, q: Array) -> Array:
        prob = softmax_parts(z).p
        moved = p - q
        share = lse + tf.reduce_sum(nll, -1)
        average = tf.reduce_sum(prob * moved, -1, keepdims=True)
        return prob * (moved - average) + prob * share[..., None] - nll

    return tuple(got), back


def sigmoid_parts(z: Array) -> binary.Sigmoid:
    """Return elements.sigmoid of a tensor, differentiable to any order."""
    return binary.Sigmoid(*_sigmoid_parts(z))


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _sigmoid_parts(z: Array) -> Any:
    got = binary.sigmoid(z, _context(z))

    def back(p: Array, q: Array, rise: Array, fall: Array) -> Array:
        again = sigmoid_parts(z)
        return again.p * again.q * (p - q) + again.p * rise - again.q * fall

    return tuple(got), back


def soft(o: Operands, options: Options) -> bool:
    """Tell whether the targets are floating, so that gradients go to them too."""
    return o.targets is not None and o.targets.dtype.is_floating and not options.indexed


def differentiated(o: Operands, options: Options) -> tuple[Array, ...]:
    """Return the operands that gradients go to."""
    return (o.x, o.targets) if soft(o, options) else (o.x,)


def replaced(o: Operands, given: tuple[Array, ...]) -> Operands:
    """Return operands with others in the place of those that gradients go to."""
    return o._replace(x=given[0], targets=given[1] if len(given) > 1 else o.targets)


def rows(o: Operands, options: Options, cx: Context, classes: int) -> Array:
    """Return row losses whose gradient is the closed form, itself differentiable.

    A gradient starts from two numbers a row that the losses have left, so that it adds nothing up.
    """
    keep = options.kind in SOFTMAX_KINDS

    def made(*given: Array) -> Any:
        own = replaced(o, given)
        engine = choose(own, options, cx)
        done = engine.run(own, options, cx, classes, Outputs(rows=True, stats=keep))

        def first(cotangent: Array, *given: Array) -> Any:
            own = replaced(o, given)
            wants = Outputs(grad=True, grad_targets=len(given) > 1)
            got = engine.run(own, options, cx, classes, wants, Cotangent(cotangent), done.stats)
            grads = (got.grad, got.grad_targets)[: len(given)]
            formula = partial(_formula, o, options, cx, classes)
            return grads, partial(tapes.gradients_of_gradients, formula, given, cotangent)

        def back(cotangent: Array) -> Any:
            return tf.custom_gradient(first)(cotangent, *given)

        return done.rows, back

    return tf.custom_gradient(made)(*differentiated(o, options))


def _formula(
    o: Operands,
    options: Options,
    cx: Context,
    classes: int,
    given: tuple[Array, ...],
    cotangent: Array,
) -> Any:
    """Return the same gradients in operations that a tape follows to any order."""
    g, h = formula_gradients(
        replaced(o, given),
        options,
        cx,
        classes,
        Cotangent(cotangent),
        lambda z, _: softmax_parts(z),
        lambda z, _: sigmoid_parts(z),
    )
    grads = (g,) if len(given) == 1 else (g, h)
    return tuple(cx.cast(a, b.dtype) for a, b in zip(grads, given, strict=True))
