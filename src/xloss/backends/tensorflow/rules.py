"""TensorFlow: softmax and sigmoid with derivative rules of their own, and rows that use them.

Each rule computes what it needs by the function that it is the rule of, so that the derivative of a
derivative uses the same rule, and never the derivative of a maximum, which is wrong on ties.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import tensorflow as tf

from ..._arrays.context import Context, context, functional
from ..._arrays.inspect import Array
from ...core import elementwise, softmax
from ...core.call import LossCall
from ...core.family import SOFTMAX_KINDS
from ...core.formula import formula_gradients
from ...core.options import Cotangent, Operands, Options, Outputs
from ...engines import choose
from . import namespace as xp
from . import tapes


def _context(x: Array) -> Context:
    return functional(context(x, xp))


def softmax_parts(z: Array) -> softmax.SoftmaxParts:
    """Return core.softmax.parts of a tensor, differentiable to any order."""
    return softmax.SoftmaxParts(*_softmax_parts(z))


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _softmax_parts(z: Array) -> Any:
    parts = softmax.parts(z, _context(z))

    def backward(lse: Array, nll: Array, p: Array, q: Array) -> Array:
        prob = softmax_parts(z).p
        difference = p - q
        share = lse + tf.reduce_sum(nll, -1)
        average = tf.reduce_sum(prob * difference, -1, keepdims=True)
        return prob * (difference - average) + prob * share[..., None] - nll

    return tuple(parts), backward


def sigmoid_parts(z: Array) -> elementwise.Sigmoid:
    """Return core.elementwise.sigmoid of a tensor, differentiable to any order."""
    return elementwise.Sigmoid(*_sigmoid_parts(z))


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _sigmoid_parts(z: Array) -> Any:
    parts = elementwise.sigmoid(z, _context(z))

    def backward(p: Array, q: Array, rise: Array, fall: Array) -> Array:
        s = sigmoid_parts(z)
        return s.p * s.q * (p - q) + s.p * rise - s.q * fall

    return tuple(parts), backward


def soft(o: Operands, options: Options) -> bool:
    """Tell whether the targets are floating, so that gradients go to them too."""
    return o.targets is not None and o.targets.dtype.is_floating and not options.indexed


def differentiated(o: Operands, options: Options) -> tuple[Array, ...]:
    """Return the operands that gradients go to."""
    return (o.x, o.targets) if soft(o, options) else (o.x,)


def constants(arguments: tuple[Array, ...]) -> tuple[Array, ...]:
    """Return the same numbers, through which no derivative goes.

    A persistent tape around a `tf.function` also carries zeros back through what a function saves,
    and in an absent row that holds NaN such a zero becomes NaN on its way to the logits.
    """
    return tuple(map(tf.stop_gradient, arguments))


def replaced(o: Operands, arguments: tuple[Array, ...]) -> Operands:
    """Return the operands with these in the place of those that gradients go to."""
    return o._replace(x=arguments[0], targets=arguments[1] if len(arguments) > 1 else o.targets)


def rows(call: LossCall) -> Array:
    """Return row losses whose gradient is the closed form, itself differentiable.

    A gradient starts from two statistics a row that the losses saved, so that it sums nothing.
    """
    o, options = call.operands, call.options
    save_stats = options.kind in SOFTMAX_KINDS

    def forward(*arguments: Array) -> Any:
        own = call.of(replaced(o, constants(arguments)))
        engine = choose(own)
        outcome = engine.run(own, Outputs(rows=True, stats=save_stats))

        def gradient(cotangent: Array, *arguments: Array) -> Any:
            own = call.of(replaced(o, constants(arguments)))
            outputs = Outputs(grad=True, grad_targets=len(arguments) > 1)
            found = engine.run(own, outputs, Cotangent(cotangent), outcome.stats)
            grads = (found.grad, found.grad_targets)[: len(arguments)]
            formula = partial(_formula, call)
            return grads, partial(tapes.gradients_of_gradients, formula, arguments, cotangent)

        def backward(cotangent: Array) -> Any:
            return tf.custom_gradient(gradient)(cotangent, *arguments)

        return outcome.rows, backward

    return tf.custom_gradient(forward)(*differentiated(o, options))


def _formula(call: LossCall, arguments: tuple[Array, ...], cotangent: Array) -> Any:
    """Return the same gradients in operations that a tape follows to any order."""
    g, h = formula_gradients(
        call.of(replaced(call.operands, arguments)),
        Cotangent(cotangent),
        lambda z, _: softmax_parts(z),
        lambda z, _: sigmoid_parts(z),
    )
    grads = (g,) if len(arguments) == 1 else (g, h)
    return tuple(call.cx.cast(a, b.dtype) for a, b in zip(grads, arguments, strict=True))
