"""Eager tensors in the host's memory: the engines read them as NumPy arrays, without a copy."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from ..._arrays.context import Context, context, read
from ..._arrays.inspect import Array
from ...core.call import LossCall
from ...core.family import SOFTMAX_KINDS
from ...core.options import Cotangent, Operands, Outcome, Outputs
from ...core.token_stats import Tokens, mapped
from ...core.weights import mean_weights
from ...engines import choose
from ...engines.row_layout import ALIGNED_FROM, CACHE_LINE, aligned
from ..eager import dense
from . import rules, tapes

_NOTHING_ELSE = Outputs()


def takes(call: LossCall, *others: Any) -> bool:
    """Tell whether the engines can read every tensor of a call as a NumPy array.

    A call that asks for the generic engine by name is computed by TensorFlow's own operations.
    """
    if not call.cx.on_host or call.options.engine == "generic":
        return False
    return readable(*call.operands, call.normalizer, *others)


def readable(*tensors: Any) -> bool:
    """Tell whether values can be read: a tensor that tf.function traces has none yet."""
    return tf.executing_eagerly() and not any(
        tf.is_tensor(a) and tf.is_symbolic_tensor(a) for a in tensors
    )


def view(a: Any) -> Any:
    """Return a NumPy array on a tensor's memory; anything else as it is."""
    return np.asarray(a) if tf.is_tensor(a) else a


def tensor(a: Any) -> Array:
    """Return an array of our own as a tensor, on the same memory where TensorFlow can use it."""
    a = np.asarray(a)
    if a.size < ALIGNED_FROM:
        return tf.constant(a)
    if a.dtype.name == "bfloat16":  # which DLPack does not take from NumPy
        return tf.bitcast(tensor(a.view(np.uint16)), tf.bfloat16)
    if a.__array_interface__["data"][0] % CACHE_LINE or not a.flags.c_contiguous:
        copy = aligned(a.shape, a.dtype)
        np.copyto(copy, a)
        a = copy
    return tf.experimental.dlpack.from_dlpack(a.__dlpack__())


def numpy_call(call: LossCall) -> LossCall:
    """Return the call on NumPy views of its tensors, the weights of a mean scaled to near 1."""
    o = Operands(*map(view, call.operands))
    cx = _as_read(context(o.x, np), call)
    o, n = mean_weights(o, call.options, cx, call.classes, view(call.normalizer))
    return call._replace(cx=cx, operands=o, normalizer=n)


def value_and_grad(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the closed-form gradients."""
    loss, grads = dense.value_and_grad(numpy_call(call), wanted, view(cotangent))
    return tensor(loss), {name: tensor(g) for name, g in grads.items()}


def weight(call: LossCall) -> Array:
    """Return the mean's denominator."""
    # The call has labels only, which are in the place of the logits too.
    o = Operands(*map(view, call.operands))
    cx = context(np.empty(0, np.dtype(call.cx.compute_dtype.name)), np)
    return tensor(dense.weight(call._replace(cx=_as_read(cx, call), operands=o)))


def _as_read(cx: Context, call: LossCall) -> Context:
    """Return the context with what is known of the call's labels."""
    known = call.cx.values_readable or call.cx.labels_verified
    return read(cx, call.cx.labels_verified) if known else cx


def elements(call: LossCall, by_operations: Any) -> Array:
    """Return softmax or its logarithm, the class axis last; `by_operations` uses operations."""

    def forward(x: Array) -> Any:
        numpy = numpy_call(call.of(Operands(x)))._replace(axis=-1)

        def backward(cotangent: Array) -> Array:
            return tapes.gradients(partial(by_operations, call), (x,), cotangent)[0]

        return tensor(dense.elements(numpy)), backward

    return tf.custom_gradient(forward)(call.operands.x)


def tokens(call: LossCall, by_operations: Any, asked: Outputs) -> tuple[Array, Tokens]:
    """Return row losses, and the numbers beside them from the same pass."""
    made: list[Outcome] = []
    rows = value(call, by_operations, asked, made.append)
    return rows, mapped(tensor, made[0].tokens or ())


def value(
    call: LossCall, by_operations: Any, beside: Outputs = _NOTHING_ELSE, keep: Any = bool
) -> Array:
    """Return the loss; its gradient is one pass that starts from the saved row statistics.

    `by_operations` computes the same loss in TensorFlow's operations. It is differentiated for
    second derivatives, and where the cotangent has no values, as where a Jacobian is traced.
    `keep` is called with the outcome of row losses, of which `beside` may ask for more.
    """
    o, options = call.operands, call.options

    def forward(*arguments: Array) -> Any:
        numpy = numpy_call(call)
        engine: Any = choose(numpy)
        save_stats = options.kind in SOFTMAX_KINDS and call.classes >= engine.save_stats_from
        run = dense.runner(numpy)
        denominator = None
        if options.reduction == "none":
            outcome = run(beside._replace(rows=True, stats=save_stats))
            keep(outcome)
            out = outcome.rows
        else:
            denominator = dense.known_weight(numpy) if options.reduction == "mean" else 1.0
            outcome = run(Outputs(total=True, weight=denominator is None, stats=save_stats))
            denominator = outcome.weight if denominator is None else denominator
            out = dense.reduced(
                numpy, outcome.total, denominator if options.reduction == "mean" else None
            )
        run_again = partial(run, saved=outcome.stats)

        def gradient(cotangent: Array, *arguments: Array) -> Any:
            outputs = Outputs(grad=True, grad_targets=len(arguments) > 1)
            found = _gradients(numpy, run_again, outputs, view(cotangent), denominator)
            follow = partial(_followed, call, by_operations)
            return found, partial(tapes.gradients_of_gradients, follow, arguments, cotangent)

        def backward(cotangent: Array) -> Any:
            if readable(cotangent):
                return tf.custom_gradient(gradient)(cotangent, *arguments)
            return _followed(call, by_operations, arguments, cotangent)

        return tensor(out), backward

    return tf.custom_gradient(forward)(*rules.differentiated(o, options))


def _gradients(
    numpy: LossCall, run: Any, outputs: Outputs, cotangent: Any, denominator: Any
) -> tuple[Array, ...]:
    if numpy.options.reduction == "none":
        with numpy.cx.quiet():
            outcome = run(outputs, Cotangent(numpy.cx.cast(cotangent, numpy.cx.sum_dtype)))
    else:
        outcome = dense.evaluated(numpy, run, outputs, cotangent, denominator, value=False)[1]
    return tuple(tensor(g) for g in (outcome.grad, outcome.grad_targets) if g is not None)


def _followed(
    call: LossCall, by_operations: Any, arguments: tuple[Array, ...], cotangent: Array
) -> Any:
    """Return the first derivatives in operations that a tape around this one follows."""
    options = call.options._replace(engine=None)

    def loss(*arguments: Array) -> Array:
        return by_operations(
            call._replace(operands=rules.replaced(call.operands, arguments), options=options)
        )

    return tapes.gradients(loss, arguments, cotangent)
