"""Eager tensors in the host's memory: the engines read them as NumPy arrays, without a copy."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from ..._arrays.context import context, read
from ..._arrays.inspect import Array
from ...core.call import LossCall
from ...core.family import SOFTMAX_KINDS
from ...core.options import Cotangent, Operands, Outputs
from ...core.weights import mean_weights
from ...engines import choose
from ...engines.row_layout import ALIGNED_FROM, CACHE_LINE, aligned
from ..eager import dense as default
from . import rules, tapes


def takes(call: LossCall, *others: Any) -> bool:
    """Tell whether every tensor of a call is there to be read, and nobody asked for tensors.

    Asking for the generic engine keeps TensorFlow's own operations.
    """
    if not call.cx.on_host or call.options.engine == "generic":
        return False
    return readable(*call.operands, call.normalizer, *others)


def readable(*tensors: Any) -> bool:
    """Tell whether values can be read: those of a tensor that tf.function traces cannot."""
    return tf.executing_eagerly() and not any(
        tf.is_tensor(a) and tf.is_symbolic_tensor(a) for a in tensors
    )


def view(a: Any) -> Any:
    """Return a NumPy array on a tensor's memory; anything else as it is."""
    return np.asarray(a) if tf.is_tensor(a) else a


def tensor(a: Any) -> Array:
    """Return a tensor of an array of our own, on its memory where TensorFlow can use that."""
    a = np.asarray(a)
    if a.size < ALIGNED_FROM:
        return tf.constant(a)
    if a.dtype.name == "bfloat16":  # which DLPack does not take from NumPy
        return tf.bitcast(tensor(a.view(np.uint16)), tf.bfloat16)
    if a.__array_interface__["data"][0] % CACHE_LINE or not a.flags.c_contiguous:
        room = aligned(a.shape, a.dtype)
        np.copyto(room, a)
        a = room
    return tf.experimental.dlpack.from_dlpack(a.__dlpack__())


def twin(call: LossCall) -> LossCall:
    """Return the call on NumPy views of its tensors, the weights of a mean brought near 1."""
    o = Operands(*map(view, call.operands))
    cx = context(o.x, np)
    if call.cx.values_readable or call.cx.labels_verified:
        cx = read(cx, call.cx.labels_verified)
    o, n = mean_weights(o, call.options, cx, call.classes, view(call.normalizer))
    return call._replace(cx=cx, operands=o, normalizer=n)


def value_and_grad(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the closed-form gradients."""
    got, grads = default.value_and_grad(twin(call), wanted, view(cotangent))
    return tensor(got), {name: tensor(g) for name, g in grads.items()}


def weight(call: LossCall) -> Array:
    """Return the mean's denominator."""
    # Of labels alone, which stand in the logits' place as well.
    o = Operands(*map(view, call.operands))
    return tensor(default.weight(call._replace(cx=_numpy(call), operands=o)))


def _numpy(call: LossCall) -> Any:
    cx = context(np.empty(0, np.dtype(call.cx.compute_dtype.name)), np)
    return (
        read(cx, call.cx.labels_verified)
        if call.cx.values_readable or call.cx.labels_verified
        else cx
    )


def elements(call: LossCall, plain: Any) -> Array:
    """Return softmax or its logarithm, the class axis last; `plain` makes it of operations."""

    def made(x: Array) -> Any:
        numpy = twin(call.of(Operands(x)))._replace(axis=-1)

        def back(cotangent: Array) -> Array:
            return tapes.gradients(partial(plain, call), (x,), cotangent)[0]

        return tensor(default.elements(numpy)), back

    return tf.custom_gradient(made)(call.operands.x)


def value(call: LossCall, plain: Any) -> Array:
    """Return the loss; its gradient is one pass, from what this one leaves of every row.

    `plain` is the same loss in TensorFlow's operations: what second derivatives are made of, and
    gradients whose cotangent has no values, as where a Jacobian is traced.
    """
    o, options = call.operands, call.options

    def made(*given: Array) -> Any:
        numpy = twin(call)
        engine: Any = choose(numpy.operands, options, numpy.cx)
        keep = options.kind in SOFTMAX_KINDS and call.classes > engine.save_stats_from
        run = default.runner(numpy)
        below = None
        if options.reduction == "none":
            got = run(Outputs(rows=True, stats=keep))
            out = got.rows
        else:
            below = default.known_weight(numpy) if options.reduction == "mean" else 1.0
            got = run(Outputs(total=True, weight=below is None, stats=keep))
            below = got.weight if below is None else below
            out = default.reduced(numpy, got.total, below if options.reduction == "mean" else None)
        again = partial(run, saved=got.stats)

        def first(cotangent: Array, *given: Array) -> Any:
            wants = Outputs(grad=True, grad_targets=len(given) > 1)
            found = _gradients(numpy, again, wants, view(cotangent), below)
            return found, partial(_second, call, plain, given, cotangent)

        def back(cotangent: Array) -> Any:
            if readable(cotangent):
                return tf.custom_gradient(first)(cotangent, *given)
            return _followed(call, plain, given, cotangent)

        return tensor(out), back

    return tf.custom_gradient(made)(*rules.differentiated(o, options))


def _gradients(
    numpy: LossCall, run: Any, wants: Outputs, cotangent: Any, below: Any
) -> tuple[Array, ...]:
    if numpy.options.reduction == "none":
        with numpy.cx.quiet():
            got = run(wants, Cotangent(numpy.cx.cast(cotangent, numpy.cx.sum_dtype)))
    else:
        got = default.evaluated(numpy, run, wants, cotangent, below, value=False)[1]
    return tuple(tensor(g) for g in (got.grad, got.grad_targets) if g is not None)


def _followed(call: LossCall, plain: Any, given: tuple[Array, ...], cotangent: Array) -> Any:
    """Return the first derivatives in operations that a tape around this one follows."""
    options = call.options._replace(engine=None)

    def loss(*given: Array) -> Array:
        return plain(call._replace(operands=rules.replaced(call.operands, given), options=options))

    return tapes.gradients(loss, given, cotangent)


def _second(
    call: LossCall, plain: Any, given: tuple[Array, ...], cotangent: Array, *tangents: Array
) -> Any:
    """Return the derivatives of the gradients, to the cotangent and to each argument."""
    return tapes.gradients_of_gradients(
        partial(_followed, call, plain), given, cotangent, *tangents
    )
