"""TensorFlow: eager tensors of the host by the engines, all others by plain operations."""

from __future__ import annotations

from functools import partial
from typing import Any

import tensorflow as tf

from ..._arrays.context import functional
from ..._arrays.inspect import Array
from ...core import softmax
from ...core.call import LossCall
from ...core.family import SOFTMAX_KINDS
from ...core.linear import Linear
from ...core.options import Operands, Outputs
from ...core.token_stats import Tokens, mapped
from ...core.weights import mean_weights
from ...engines import choose
from ..eager import dense, followed
from . import host, rules, tapes


def value(call: LossCall) -> Array:
    """Return the loss, which a GradientTape may follow to any order."""
    return _computed(call, Outputs())[0]


def tokens(call: LossCall, asked: Outputs) -> tuple[Array, Tokens]:
    """Return row losses, which a tape may follow, and the numbers beside them, which it may not."""
    return _computed(call, asked)


def _computed(call: LossCall, beside: Outputs) -> tuple[Array, Any]:
    """Return the loss, whose gradient is one pass that starts from the saved row statistics."""
    own, read, made = ready(call)
    options, engine = call.options, choose(own)
    save_stats = options.kind in SOFTMAX_KINDS and call.classes >= engine.save_stats_from
    each, mean = options.reduction == "none", options.reduction == "mean"
    weight: Any = dense.known_weight(own) if mean else None
    asked = beside._replace(rows=each, total=not each, weight=mean and weight is None)
    got = engine.run(own, asked._replace(stats=save_stats))
    weight = got.weight if weight is None else weight
    loss = got.rows if each else dense.reduced(own, got.total, weight)
    arguments = rules.differentiated(call)

    def gradients(cotangent: Array) -> tuple[Array, ...]:
        outputs = Outputs(grad=True, grad_targets=len(arguments) > 1)
        run = partial(engine.run, own, saved=got.stats)
        found = dense.evaluated(own, run, outputs, read(cotangent), weight, value=False)[1]
        return tuple(made(g) for g in (found.grad, found.grad_targets) if g is not None)

    def formula(*given: Array) -> Array:
        return traced_value(rules.replaced(call, given))

    loss = tapes.followed(made(loss), arguments, formula, gradients, rules.fixed(call))
    return loss, mapped(made, got.tokens) if got.tokens else None


def value_and_grad(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the closed-form gradients, recorded by no tape."""
    own, read, made = ready(call, cotangent)
    loss, grads = dense.value_and_grad(own, wanted, read(cotangent))
    return made(loss), {name: made(g) for name, g in grads.items()}


def ready(call: LossCall, *others: Any) -> tuple[LossCall, Any, Any]:
    """Return the call as it is computed, what reads tensors for it, and what makes them.

    On NumPy views, but where a tensor has no values to be read: in operations that no tape follows.
    """
    if host.takes(call, *others):
        return host.numpy_call(call), host.view, host.tensor
    choose(call)
    if call.linear is not None:
        call = call._replace(linear=Linear(*map(constant, call.linear)))
    call = completed(call.of(Operands(*map(constant, call.operands))))
    o, n = mean_weights(call.operands, call.options, call.cx, call.classes, call.normalizer)
    return call._replace(operands=o, normalizer=n), constant, constant


@tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
def elements(call: LossCall) -> Array:
    """Return softmax or its logarithm, which a GradientTape may follow to any order."""
    x = call.operands.x
    if host.takes(call):
        own = host.numpy_call(call)._replace(axis=-1)
        made = host.tensor(dense.elements(own))
        return dense.restore(call, tapes.followed(made, (x,), partial(traced_elements, call)))
    choose(call)
    return dense.restore(call, traced_elements(call, x))


@tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
def weight(call: LossCall) -> Array:
    """Return the mean's denominator, of soft targets as a function of them."""
    return followed.weight(completed(call, by_targets=True))


def traced_value(call: LossCall) -> Array:
    """Return the loss as a function of row losses, in plain operations."""
    return followed.value(completed(call), rules.rows)


def traced_elements(call: LossCall, x: Array) -> Array:
    """Return softmax or its logarithm in plain operations."""
    cx = functional(call.cx)
    parts: softmax.SoftmaxParts = rules.softmax_parts(cx.cast(x, cx.compute_dtype))
    return -parts.nll if call.options.kind == "log_softmax" else parts.p


def completed(call: LossCall, *, by_targets: bool = False) -> LossCall:
    """Return the call for plain operations, its weights broadcast to the shape of the rows.

    While tf.function traces, lengths may be unknown: only the graph can broadcast to them, and
    compare the targets' shape with them. Constants of the loss are constants for a tape too.
    """
    o = call.operands
    whole: Any = o.targets if by_targets else o.x
    own = 0 if by_targets and call.options.indexed else call.classes
    rows = whole.shape[:-1] if own else whole.shape
    for a in () if by_targets else (o.targets, o.indices):
        if a is not None:
            rows = rows.merge_with(a.shape[:-1] if own and len(a.shape) > len(rows) else a.shape)
    if whole.shape[: len(rows)] != rows:  # a length that only the targets' shape tells
        whole = tf.ensure_shape(whole, rows.concatenate(whole.shape[len(rows) :]))
        o = o._replace(x=whole)

    def row_shape() -> Any:
        shape = tf.shape(whole, tf.int64)
        return shape[:-1] if own else shape

    def each(a: Array | None) -> Array | None:
        if a is None:
            return None
        a = tf.stop_gradient(a)
        full = rows.is_fully_defined() and a.shape == rows
        return a if full else tf.broadcast_to(a, row_shape())

    def fitting(a: Array | None) -> Array | None:
        """Return targets or the listed classes in the rows of the logits.

        Without a check arithmetic would broadcast one row of targets to all rows.
        """
        if a is None or by_targets:
            return a
        last = [] if len(a.shape) == len(rows) else [own if o.indices is None else a.shape[-1]]
        if rows.is_fully_defined():
            return tf.ensure_shape(a, rows.concatenate(last))
        # XLA drops the assertion, but its reshape fails on another number of elements.
        shape = tf.concat([row_shape(), tf.constant(last, tf.int64)], 0)
        message = "targets: not of the shape that goes with the first argument's"
        fits = tf.debugging.assert_equal(tf.shape(a, tf.int64), shape, message)
        with tf.control_dependencies([] if fits is None else [fits]):
            return tf.ensure_shape(tf.reshape(a, shape), a.shape)

    o = o._replace(
        targets=fitting(o.targets),
        indices=fitting(o.indices),
        class_weight=constant(o.class_weight),
        sample_weight=each(o.sample_weight),
        where=each(o.where),
        pos_weight=each(o.pos_weight),
    )
    options = call.options._replace(engine=None)
    n = constant(call.normalizer)
    return call._replace(operands=o, options=options, cx=functional(call.cx), normalizer=n)


def constant(a: Any) -> Any:
    """Return a tensor through which no derivative goes; anything else as it is."""
    return tf.stop_gradient(a) if tf.is_tensor(a) else a
