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
from ...core.options import Cotangent, Operands, Outputs
from ...engines import choose
from . import namespace as xp
from .tapes import Arrays, rule


def _context(x: Array) -> Context:
    return functional(context(x, xp))


@rule
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


@rule
def sigmoid_parts(z: Array) -> Any:
    """Return core.elementwise.sigmoid of a tensor, differentiable to any order."""
    parts = elementwise.sigmoid(z, _context(z))

    def backward(p: Array, q: Array, rise: Array, fall: Array) -> Array:
        s = sigmoid_parts(z)
        return s.p * s.q * (p - q) + s.p * rise - s.q * fall

    return parts, backward


def soft(call: LossCall) -> bool:
    """Tell whether the targets are floating, so that gradients go to them too."""
    targets = call.operands.targets
    return targets is not None and targets.dtype.is_floating and not call.options.indexed


def differentiated(call: LossCall) -> Arrays:
    """Return the operands that gradients go to."""
    return call.operands[: 1 + soft(call)]


def fixed(call: LossCall) -> Arrays:
    """Return the call's other tensors."""
    others = (*call.operands[1 + soft(call) :], call.normalizer)
    return tuple(a for a in others if tf.is_tensor(a))


def replaced(call: LossCall, given: Arrays) -> LossCall:
    """Return the call with these in the place of `differentiated` and `fixed`."""
    left = iter(given)
    *o, n = (next(left) if tf.is_tensor(a) else a for a in (*call.operands, call.normalizer))
    return call._replace(operands=Operands(*o), normalizer=n)


def rows(call: LossCall) -> Array:
    """Return row losses whose gradient is the formula of the closed form."""
    arguments, constants = differentiated(call), fixed(call)

    def forward(*given: Array) -> Any:
        def backward(cotangent: Array) -> Any:
            g, h = formula_gradients(
                replaced(call, given),
                Cotangent(cotangent),
                lambda z, _: softmax_parts(z),
                lambda z, _: sigmoid_parts(z),
            )
            pairs = zip((g, h), arguments, strict=False)
            return tuple(call.cx.cast(a, b.dtype) for a, b in pairs)

        return choose(call).run(call, Outputs(rows=True)).rows, backward

    return rule(forward, len(constants))(*arguments, *constants)
