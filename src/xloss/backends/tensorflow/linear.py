"""Linear cross-entropy on TensorFlow: blocks of rows in a loop, gradients in a second pass.

A custom gradient does not know whether a tape will ask for it, so that the first pass computes the
loss alone, and the second computes the logits of each block again.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import tensorflow as tf

from ..._arrays.inspect import Array
from ...core import linear as cutting
from ...core.call import LossCall
from ...core.options import UNIT_COTANGENT, Cotangent, Operands, Outcome, Outputs
from ...core.token_stats import Tokens, mapped
from ..eager import dense, linear_scan
from ..eager import linear as eager_linear
from ..eager.linear import evaluated, rounded
from . import backend, rules, tapes


def value(call: LossCall) -> Array:
    """Return the loss, which a GradientTape may follow to any order."""
    own, compute, _, made = _ready(call)
    return _followed(call, made(dense.value(own, partial(compute, own, ()))))


def tokens(call: LossCall, asked: Outputs) -> tuple[Array, Tokens]:
    """Return row losses, which a tape may follow, and the numbers beside them, which it may not."""
    own, compute, _, made = _ready(call)
    rows, beside = dense.tokens(own, asked, partial(compute, own, ()))
    return _followed(call, made(rows)), mapped(made, beside)


def value_and_grad(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the closed-form gradients, recorded by no tape."""
    own, compute, read, made = _ready(call, cotangent)
    loss, grads = evaluated(own, partial(compute, own), wanted, read(cotangent))
    return made(loss), {name: made(g) for name, g in rounded(own, grads).items()}


def _ready(call: LossCall, *others: Any) -> tuple[LossCall, Any, Any, Any]:
    """Return what `backend.ready` does, and what computes such a call."""
    own, read, made = backend.ready(call, *others)
    return own, run if own.cx.library == "tensorflow" else eager_linear.run, read, made


def _followed(call: LossCall, loss: Array) -> Array:
    """Return a loss as a function of what gradients go to.

    Second derivatives come from the whole logits: they keep arrays of that size in any case.
    """
    assert call.linear is not None
    bias = ("bias",) if call.linear.bias is not None else ()
    targets = ("targets",) if rules.soft(call) else ()
    names = ("x", "weight", *bias, *targets)

    def gradients(cotangent: Array) -> tuple[Array, ...]:
        grads = value_and_grad(call, names, cotangent)[1]
        return tuple(grads[n] for n in names)

    def formula(*given: Array) -> Array:
        own, fixed = dict(zip(names, given, strict=False)), given[len(names) :]
        x, weight = (call.cx.cast(own[n], call.cx.compute_dtype) for n in ("x", "weight"))
        z = tf.linalg.matmul(x, weight, transpose_b=True)
        z = z + call.cx.cast(own["bias"], call.cx.compute_dtype) if "bias" in own else z
        of_logits = rules.replaced(call, (z, *(own[n] for n in targets), *fixed))
        return backend.traced_value(of_logits._replace(linear=None))

    arguments = tuple(eager_linear.argument(call, n) for n in names)
    return tapes.followed(loss, arguments, formula, gradients, rules.fixed(call))


def run(
    call: LossCall, parts: tuple[str, ...], outputs: Outputs, cotangent: Cotangent = UNIT_COTANGENT
) -> Outcome:
    """Compute the outputs in a loop over blocks; the number of rows may be unknown till it runs."""
    return linear_scan.run(call, parts, outputs, cotangent, _Blocks)


class _Blocks:
    """One call's blocks of rows, and their products with the whole weight."""

    def __init__(self, call: LossCall, o: Operands) -> None:
        linear, cx, rows = call.linear, call.cx, o.x.shape[0]
        assert linear is not None
        largest = cutting.block_rows(2**31 if rows is None else rows, call.classes, linear, cx)
        least, most = (tf.minimum, tf.maximum) if rows is None else (min, max)
        self.shape = tf.shape(call.operands.x)[:-1]
        self.rows = tf.shape(o.x)[0] if rows is None else rows
        self.every_row = tf.ones([self.rows], tf.bool)
        self.step = most(1, least(largest, self.rows))  # rows of a block
        # One at least: what no block has written TensorFlow does not stack.
        self.count = most(1, -(-self.rows // self.step))
        self.weight = cx.cast(linear.weight, cx.compute_dtype)
        self.bias = None if linear.bias is None else cx.cast(linear.bias, cx.compute_dtype)
        self.lengths = {
            "x": o.x.shape[1:],
            "targets": None if o.targets is None else o.targets.shape[1:],
        }
        self.zeros = tf.zeros

    def logits(self, x: Array) -> Array:
        """Return the logits of a block, (rows, classes); x: (rows, features)."""
        z = tf.matmul(x, self.weight, transpose_b=True)
        return z if self.bias is None else z + self.bias

    def products(self, g: Array, x: Array, total: Array | None, to_x: bool) -> Any:
        """Return the two products with the gradient to a block's logits, g: (rows, classes)."""
        if total is not None:
            total = total + tf.matmul(g, x, transpose_a=True)
        return tf.matmul(g, self.weight) if to_x else None, total

    def loop(self, body: Any, sums: Any, arrays: Any, kinds: dict[str, Any]) -> Any:
        """Loop over the blocks: a graph holds one, whatever their number."""

        def cut(a: Array | None) -> Array | None:
            """Return an array of (rows, ...) as (blocks, step, ...)."""
            if a is None:
                return None
            missing = self.count * self.step - self.rows
            filled = tf.pad(a, [[0, missing], *[[0, 0] for _ in a.shape[1:]]])
            return tf.reshape(filled, [self.count, self.step, *a.shape[1:]])

        def one(i: Any, sums: Any, found: dict[str, Any]) -> Any:
            block = tf.nest.map_structure(lambda a: None if a is None else tf.gather(a, i), blocks)
            sums, made = body(sums, block)
            return i + 1, sums, {name: a.write(i, made[name]) for name, a in found.items()}

        def joined(name: str, a: Any) -> Array:
            last = list(self.lengths.get(name, ()))
            a = tf.reshape(a.stack(), [self.count * self.step, *last])[: self.rows]
            return tf.reshape(a, tf.concat([self.shape, tf.constant(last, tf.int32)], 0))

        blocks = tf.nest.map_structure(cut, arrays)
        found = {name: tf.TensorArray(kind, self.count) for name, kind in kinds.items()}
        start = tf.constant(0), sums, found
        _, sums, found = tf.while_loop(lambda i, *_: i < self.count, one, start)
        return sums, {name: joined(name, a) for name, a in found.items()}
