"""JAX: a loss whose classes are split along a mesh axis, differentiable to any order."""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp

from ..._arrays.inspect import Array
from ...core import class_shards
from ...core.call import LossCall
from ...core.options import Cotangent, Operands
from ...core.reduce import contributing, exact_sum, mean
from ...core.row_stats import RowStats
from ...core.targets import Targets, total_weight
from ...core.weights import mean_weights
from ...engines import refuse_compiled
from ..eager import sharded
from .backend import bare, constants, denominator
from .ffi import SPLIT
from .softmax_rules import softmax_parts


def value(call: LossCall) -> Array:
    """Return the loss."""
    call = _prepared(call)
    o, options, cx, shard = call.operands, call.options, call.cx, call.shard
    assert shard is not None
    constant = o._replace(x=jax.lax.stop_gradient(o.x))
    m, sums, t = sharded.exchanged(call._replace(operands=constant))
    weight = None
    if options.reduction == "mean":
        rows = tuple(o.x.shape[:-1])
        weight = total_weight(class_shards.whole(m, sums, t, options, cx)[1], prod(rows), cx)
        weight = contributing(cx, weight, denominator(call))
        if o.class_weight is not None:
            # Where no row counts every row is made absent: autodiff multiplies a row's derivative
            # by a cotangent of 0, and a derivative that is NaN would stay NaN.
            counts = jnp.broadcast_to(weight != 0, rows)
            o = o._replace(where=counts if o.where is None else o.where & counts)
    losses = _rows(o, m, sums, bare(call))
    if options.reduction == "none":
        return cx.cast(losses, cx.compute_dtype)
    total = exact_sum(cx, losses)
    if weight is not None:
        total = mean(cx, total, weight, denominator(call))
    return cx.cast(total, cx.compute_dtype)


def value_and_grad(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the closed-form gradient."""
    return sharded.value_and_grad(_prepared(call), wanted, cotangent)


def _prepared(call: LossCall) -> LossCall:
    """Return the call with weights that are constants, those of a mean scaled to near 1."""
    refuse_compiled(call.options, SPLIT)
    assert call.shard is not None
    o, n, classes = constants(call.operands), denominator(call), call.shard.classes
    o, n = mean_weights(o, call.options, call.cx, classes, n, group=call.group)
    return call._replace(operands=o, normalizer=n)


def _whole(o: Operands, m: Array, sums: Array, bare: LossCall) -> tuple[RowStats, Targets]:
    """Return the whole rows' statistics and targets, from what the exchanges left."""
    options, cx, shard = bare.options, bare.cx, bare.shard
    assert shard is not None
    shard = shard._replace(start=bare.group.rank * shard.size)
    t = class_shards.targets(o, options, cx, shard)
    return class_shards.whole(m, sums, t, options, cx)


@partial(jax.custom_jvp, nondiff_argnums=(3,))
def _rows(o: Operands, m: Array, sums: Array, bare: LossCall) -> Array:
    """Return row losses in the dtype of sums; m and sums, from the exchanges, are constants."""
    return class_shards.losses(*_whole(o, m, sums, bare), bare.options, bare.cx)


@_rows.defjvp
def _rows_jvp(bare: LossCall, primals: Any, tangents: Any) -> tuple[Array, Array]:
    o, m, sums = primals
    options, cx, name = bare.options, bare.cx, bare.group.name
    s, t = _whole(o, m, sums, bare)
    x, v = (cx.cast(a, cx.compute_dtype) for a in (o.x, tangents[0].x))
    g = class_shards.gradient(
        x, s, t, options, cx, Cotangent(1.0), lambda z: softmax_parts(z, name, (s.max, s.tail_sum))
    )
    # The sum over the ranks is made here: its transpose, in a backward pass, needs no exchange.
    out = jax.lax.psum(jnp.sum(g * v, axis=-1), name)  # type: ignore[no-untyped-call]
    return _rows(o, m, sums, bare), cx.cast(out, cx.sum_dtype)
