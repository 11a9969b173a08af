"""Linear cross-entropy on TensorFlow: blocks of rows in a loop, gradients in a second pass.

A custom gradient does not know whether a tape will ask for it, so that the first pass computes the
loss alone, and the second computes the logits of each block again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import tensorflow as tf

from ..._arrays.inspect import Array
from ...core import linear as cutting
from ...core.call import LossCall
from ...core.linear import Linear
from ...core.options import UNIT_COTANGENT, Cotangent, Operands, Outcome, Outputs
from ...core.reduce import exact_sum
from ...core.targets import prepare, total_weight
from ...core.token_stats import Tokens, mapped, of_fields
from ...core.token_stats import dtypes as dtypes_of
from ..eager import dense, sharded
from ..eager import linear as eager_linear
from ..eager.linear import evaluated, rounded
from . import backend, host, rules, tapes
from . import namespace as xp


def value(call: LossCall, loss: Callable[[LossCall], Array] | None = None) -> Array:
    """Return the loss; `loss` computes it in another way than `_loss`."""
    names = _names(call)

    def forward(*arguments: Array) -> Any:
        def backward(cotangent: Array) -> Any:
            if tf.executing_eagerly() and not host.readable(cotangent):
                return _followed(call, names, arguments, cotangent)
            return tf.custom_gradient(gradient)(cotangent, *arguments)

        def gradient(cotangent: Array, *arguments: Array) -> Any:
            grads = _gradients(call, names, cotangent)[1]
            follow = partial(_followed, call, names)
            second = partial(tapes.gradients_of_gradients, follow, arguments, cotangent)
            return tuple(grads[n] for n in names), second

        return (_loss if loss is None else loss)(call), backward

    return tf.custom_gradient(forward)(*(eager_linear.argument(call, n) for n in names))


def value_and_grad(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the closed-form gradients, recorded by no tape."""
    assert call.linear is not None
    constant = backend.constant
    linear, o = call.linear, call.operands
    linear = linear._replace(weight=constant(linear.weight), bias=constant(linear.bias))
    targets = constant(o.targets) if rules.soft(o, call.options) else o.targets
    call = call._replace(linear=linear, operands=o._replace(x=constant(o.x), targets=targets))
    return _gradients(call, wanted, constant(cotangent))


def tokens(call: LossCall, asked: Outputs) -> tuple[Array, Tokens]:
    """Return row losses, which a tape may follow, and the numbers beside them, which it may not."""
    made: list[Tokens] = []

    def loss(call: LossCall) -> Array:
        numpy = _numpy_call(call)
        if numpy is not None:
            rows, found = eager_linear.tokens(numpy, asked)
            rows, found = host.tensor(rows), mapped(host.tensor, found)
        else:
            call = backend.completed(call)
            rows, found = dense.tokens(call, asked, partial(run, call, ()))
        made.append(found)
        return rows

    rows = value(call, loss)
    return rows, mapped(tf.stop_gradient, made[0])


def _names(call: LossCall) -> tuple[str, ...]:
    """Name what gradients go to."""
    assert call.linear is not None
    bias = ("bias",) if call.linear.bias is not None else ()
    targets = ("targets",) if rules.soft(call.operands, call.options) else ()
    return ("x", "weight", *bias, *targets)


def _loss(call: LossCall) -> Array:
    numpy = _numpy_call(call)
    if numpy is not None:
        return host.tensor(dense.value(numpy, partial(eager_linear.run, numpy, ())))
    call = backend.balanced(backend.completed(call))
    return dense.value(call, partial(run, call, ()))


def _gradients(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the gradients."""
    numpy = _numpy_call(call, cotangent)
    if numpy is not None:
        cot = host.view(cotangent)
        loss, grads = evaluated(numpy, partial(eager_linear.run, numpy), wanted, cot)
        grads = rounded(numpy, grads)
        return host.tensor(loss), {name: host.tensor(g) for name, g in grads.items()}
    call = backend.balanced(backend.completed(call))
    loss, grads = evaluated(call, partial(run, call), wanted, cotangent)
    return loss, rounded(call, grads)


def _numpy_call(call: LossCall, *others: Any) -> LossCall | None:
    """Return the call on NumPy views, or None where a tensor has no values to be read."""
    linear = call.linear
    assert linear is not None
    if not host.takes(call, linear.weight, linear.bias, *others):
        return None
    views = Linear(host.view(linear.weight), host.view(linear.bias), linear.block_rows)
    return host.numpy_call(call)._replace(linear=views)


def _followed(
    call: LossCall, names: tuple[str, ...], arguments: tuple[Array, ...], cotangent: Array
) -> Any:
    """Return the first derivatives in operations that a tape follows, from the whole logits.

    Second derivatives keep arrays of the logits' size in any case.
    """

    def loss(*arguments: Array) -> Array:
        own = dict(zip(names, arguments, strict=True))
        x, weight = (call.cx.cast(own[n], call.cx.compute_dtype) for n in ("x", "weight"))
        z = tf.linalg.matmul(x, weight, transpose_b=True)
        z = z + call.cx.cast(own["bias"], call.cx.compute_dtype) if "bias" in own else z
        o = call.operands._replace(x=z, targets=own.get("targets", call.operands.targets))
        return backend.traced_value(call._replace(operands=o, linear=None))

    return tapes.gradients(loss, arguments, cotangent)


class _Blocks:
    """Arrays of all rows cut into blocks of one size; the last is filled up with absent rows."""

    def __init__(self, count: Any, largest: int) -> None:
        least, most = (min, max) if isinstance(count, int) else (tf.minimum, tf.maximum)
        self.step = most(1, least(largest, count))  # rows of a block
        # One at least: what no block has written TensorFlow does not stack.
        self.count = most(1, -(-count // self.step))
        self.missing = self.count * self.step - count  # rows that fill up the last block

    def all(self, a: Array | None) -> Array | None:
        """Return an array of (rows, ...) as (blocks, step, ...)."""
        if a is None:
            return None
        rest = a.shape[1:].as_list()
        filled = tf.pad(a, [[0, self.missing], *[[0, 0] for _ in rest]])
        return tf.reshape(filled, [self.count, self.step, *rest])


def run(
    call: LossCall, parts: tuple[str, ...], outputs: Outputs, cotangent: Cotangent = UNIT_COTANGENT
) -> Outcome:
    """Compute the outputs in a loop over blocks; `grad` is a dict of the gradients to `parts`.

    The number of rows may be unknown until the graph runs.
    """
    cx, options, classes, linear = call.cx, call.options, call.classes, call.linear
    assert linear is not None
    o = cutting.one_row_axis(call.operands, classes, cx)
    count = o.x.shape[0]
    outcome = Outcome()
    if outputs.weight:
        t = prepare(o, options, cx, classes)
        outcome = Outcome(weight=total_weight(t, cx.row_count(o.x, classes), cx))
    if not (outputs.rows or outputs.total or outputs.grad or outputs.grad_targets):
        return outcome
    largest = cutting.block_rows(2**31 if count is None else count, classes, linear, cx)
    count = tf.shape(o.x)[0] if count is None else count
    blocks = _Blocks(count, largest)
    row = cotangent.row_loss
    if not isinstance(row, float) and len(row.shape):
        row = blocks.all(tf.reshape(row, [-1]))
    present = cutting.present_rows(
        o._replace(x=tf.zeros((1,))), options, cx, classes, cotangent._replace(any_row_counts=None)
    )
    if cotangent.any_row_counts is not None:
        present = (
            cotangent.any_row_counts if present is None else present & cotangent.any_row_counts
        )
    every_row = tf.ones_like(o.x[:, 0], tf.bool)
    present = blocks.all(every_row if present is None else every_row & present)
    where = blocks.all(every_row if o.where is None else every_row & o.where)
    given = (o.x, o.targets, o.sample_weight, o.indices)
    x, targets, sample, indices = (blocks.all(a) for a in given)
    w = cx.cast(linear.weight, cx.compute_dtype)
    bias = None if linear.bias is None else cx.cast(linear.bias, cx.compute_dtype)
    of_block = outputs._replace(rows=True, total=False, weight=False)

    def block(i: Any) -> tuple[Outcome, Array]:
        def at_block(a: Array | None) -> Array | None:
            return None if a is None else tf.gather(a, i)

        x_block = cx.cast(tf.gather(x, i), cx.compute_dtype)
        features = xp.where(tf.gather(present, i)[..., None], x_block, 0.0)
        z = tf.matmul(features, w, transpose_b=True)
        part = Operands(
            z if bias is None else z + bias,
            at_block(targets),
            o.class_weight,
            at_block(sample),
            at_block(where),
            indices=at_block(indices),
        )
        scalar = isinstance(row, float) or not len(row.shape)
        of_rows = cotangent._replace(row_loss=row if scalar else at_block(row))
        return sharded.run_rows(call._replace(operands=part, cx=cx), of_block, of_rows), features

    names = ["rows"]
    names += ["x"] if "x" in parts and outputs.grad else []
    names += ["targets"] if outputs.grad_targets else []
    token_dtypes = dtypes_of(cx, outputs) if outputs.tokens else {}
    names += token_dtypes
    dtypes = {**token_dtypes}
    dtypes |= {"rows": cx.compute_dtype, "x": cx.compute_dtype, "targets": o.targets.dtype}  # type: ignore[union-attr]
    arrays = {name: tf.TensorArray(dtypes[name], blocks.count) for name in names}
    sums = {}
    if outputs.grad and "weight" in parts:
        sums["weight"] = tf.zeros_like(w)
    if outputs.grad and "bias" in parts:
        sums["bias"] = tf.zeros((classes,), cx.sum_dtype)

    def body(i: Any, arrays: dict[str, Any], sums: dict[str, Array]) -> Any:
        result, features = block(i)
        found = {"rows": result.rows, "targets": result.grad_targets}
        found |= zip(Tokens._fields, result.tokens or (), strict=False)
        g: Any = result.grad
        if "x" in arrays:
            found["x"] = xp.where(tf.gather(present, i)[..., None], tf.matmul(g, w), 0.0)
        arrays = {name: a.write(i, found[name]) for name, a in arrays.items()}
        added = {}
        if "weight" in sums:
            added["weight"] = sums["weight"] + tf.matmul(g, features, transpose_a=True)
        if "bias" in sums:
            added["bias"] = sums["bias"] + xp.sum(g, axis=0, dtype=cx.sum_dtype)
        return i + 1, arrays, added

    def more(i: Any, arrays: Any, sums: Any) -> Any:
        return i < blocks.count

    _, arrays, sums = tf.while_loop(more, body, (tf.constant(0), arrays, sums))
    shape = tf.shape(call.operands.x)

    def whole(name: str, last: Any) -> Array:
        """Return all rows in the shape of the operands, without those that filled up the last."""
        a = tf.reshape(arrays[name].stack(), [blocks.count * blocks.step, *last])[:count]
        return tf.reshape(a, tf.concat([shape[:-1], tf.constant(last, tf.int32)], 0))

    rows = whole("rows", [])
    if "x" in arrays:
        sums["x"] = whole("x", [o.x.shape[-1]])
    last = classes if o.indices is None else o.indices.shape[-1]
    grad_targets = whole("targets", [last]) if outputs.grad_targets else None
    tokens = None
    if outputs.tokens:
        tokens = of_fields((whole(name, []) for name in token_dtypes), outputs)
    total = exact_sum(cx, rows) if outputs.total else None
    return outcome._replace(
        rows=rows,
        total=total,
        grad=sums if outputs.grad else None,
        grad_targets=grad_targets,
        tokens=tokens,
    )
