"""TensorFlow: softmax and sigmoid with derivative rules of their own, and rows that use them.

Each rule computes what it needs by the function that it is the rule of, so that the derivative of a
derivative uses the same rule, and never the derivative of a maximum, which is wrong on ties.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from ..._arrays.context import Context, context, functional
from ..._arrays.inspect import Array
from ...core import elementwise, softmax
from ...core.call import LossCall
from ...core.formula import formula_gradients
from ...core.options import Cotangent, Operands, Options, Outputs
from ...engines import choose
from . import namespace as xp


def _context(x: Array) -> Context:
    return functional(context(x, xp))


@tf.custom_gradient  # type: ignore[untyped-decorator]
def softmax_parts(z: Array) -> Any:
    """Return core.softmax.parts of a tensor, differentiable to any order."""
    parts = softmax.parts(z, _context(z))

    def backward(lse: Array, nll: Array, p: Array, q: Array) -> Array:
        prob = softmax_parts(z).p
        difference = p - q
        share = lse + tf.reduce_sum(nll, -1)
        average = tf.reduce_sum(prob * difference, -1, keepdims=True)
        return prob * (difference - average) + prob * share[..., None] - nll

    return parts, backward


@tf.custom_gradient  # type: ignore[untyped-decorator]
def sigmoid_parts(z: Array) -> Any:
    """Return core.elementwise.sigmoid of a tensor, differentiable to any order."""
    parts = elementwise.sigmoid(z, _context(z))

    def backward(p: Array, q: Array, rise: Array, fall: Array) -> Array:
        s = sigmoid_parts(z)
        return s.p * s.q * (p - q) + s.p * rise - s.q * fall

    return parts, backward


def soft(o: Operands, options: Options) -> bool:
    """Tell whether the targets are floating, so that gradients go to them too."""
    return o.targets is not None and o.targets.dtype.is_floating and not options.indexed


def differentiated(o: Operands, options: Options) -> tuple[Array, ...]:
    """Return the operands that gradients go to."""
    return (o.x, o.targets) if soft(o, options) else (o.x,)


def replaced(o: Operands, arguments: tuple[Array, ...]) -> Operands:
    """Return the operands with these in the place of those that gradients go to."""
    return o._replace(x=arguments[0], targets=arguments[1] if len(arguments) > 1 else o.targets)


def rows(call: LossCall) -> Array:
    """Return row losses whose gradient is the formula of the closed form."""
    o = call.operands

    def forward(*arguments: Array) -> Any:
        def backward(cotangent: Array) -> Any:
            g, h = formula_gradients(
                call.of(replaced(o, arguments)),
                Cotangent(cotangent),
                lambda z, _: softmax_parts(z),
                lambda z, _: sigmoid_parts(z),
            )
            pairs = zip((g, h), arguments, strict=False)
            return tuple(call.cx.cast(a, b.dtype) for a, b in pairs)

        return choose(call).run(call, Outputs(rows=True)).rows, backward

    return tf.custom_gradient(forward)(*differentiated(o, call.options))
