"""JAX: a loss whose classes are spread along a mesh axis, differentiable to any order."""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp

from .._xp import Array, Context, cast, context
from ..core import shards, softmax
from ..core.reduce import contributing, exact_sum, mean
from ..core.rowstats import RowStats, exponentials
from ..core.spec import Operands, Spec, Upstream
from ..core.targets import Targets, total_weight
from ..core.weights import mean_weights
from ..engines import refuse_compiled
from . import exchange
from .call import Call
from .jax import _constants, _denominator
from .jax_ffi import SPLIT


def value(call: Call) -> Array:
    """Return the loss."""
    refuse_compiled(call.spec, SPLIT)
    o, spec, cx, shard = _constants(call.operands), call.spec, call.cx, call.shard
    assert shard is not None
    o, n = mean_weights(o, spec, cx, shard.classes, _denominator(call), group=call.group)
    call = call._replace(normalizer=n)
    still = o._replace(x=jax.lax.stop_gradient(o.x))
    m, sums, t = exchange.exchanged(call._replace(operands=still))
    weight = None
    if spec.reduction == "mean":
        rows = tuple(o.x.shape[:-1])
        weight = total_weight(shards.whole(m, sums, t, spec, cx)[1], prod(rows), cx)
        weight = contributing(cx, weight, _denominator(call))
        if o.class_weight is not None:
            # Autodiff multiplies a row's slope by an upstream of 0, which leaves a NaN a NaN.
            live = jnp.broadcast_to(weight != 0, rows)
            o = o._replace(where=live if o.where is None else o.where & live)
    losses = _rows(o, m, sums, shard.start, spec, shard[1:], call.group.name)
    if spec.reduction == "none":
        return cast(cx, losses, cx.acc)
    total = exact_sum(cx, losses)
    if weight is not None:
        total = mean(cx, total, weight, _denominator(call))
    return cast(cx, total, cx.acc)


def value_and_grad(
    call: Call, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the closed-form gradient."""
    refuse_compiled(call.spec, SPLIT)
    o, spec, cx, shard = _constants(call.operands), call.spec, call.cx, call.shard
    assert shard is not None
    o, n = mean_weights(o, spec, cx, shard.classes, _denominator(call), group=call.group)
    call = call._replace(operands=o, normalizer=n)
    made = exchange.forward(call)
    return exchange.reduced(call, made), {"x": exchange.gradient(call, made, cotangent)}


def _whole(
    o: Operands, m: Array, sums: Array, start: Any, spec: Spec, sizes: tuple[int, ...]
) -> tuple[RowStats, Targets, Context]:
    cx = context(o.x, jnp)
    t = shards.targets(o, spec, cx, shards.Shard(start, *sizes))
    return *shards.whole(m, sums, t, spec, cx), cx


@partial(jax.custom_jvp, nondiff_argnums=(4, 5, 6))
def _rows(
    o: Operands, m: Array, sums: Array, start: Any, spec: Spec, sizes: tuple[int, ...], name: str
) -> Array:
    """Return row losses, wide; m and sums are what the exchanges left, constants to autodiff."""
    s, t, cx = _whole(o, m, sums, start, spec, sizes)
    return shards.losses(s, t, spec, cx)


@_rows.defjvp
def _rows_jvp(
    spec: Spec, sizes: tuple[int, ...], name: str, primals: Any, tangents: Any
) -> tuple[Array, Array]:
    o, m, sums, start = primals
    v = tangents[0].x
    s, t, cx = _whole(o, m, sums, start, spec, sizes)
    x = cast(cx, o.x, cx.acc)
    g = shards.gradient(x, s, t, spec, cx, Upstream(1.0), lambda z: _parts(z, s.max, s.rest, name))
    # The sum over the ranks: its transpose, in a backward pass, costs no exchange.
    out = jax.lax.psum(jnp.sum(g * cast(cx, v, cx.acc), axis=-1), name)  # type: ignore[no-untyped-call]
    return _rows(o, m, sums, start, spec, sizes, name), cast(cx, out, cx.wide)


@partial(jax.custom_jvp, nondiff_argnums=(3,))
def _parts(z: Array, m: Array, rest: Array, name: str) -> softmax.Parts:
    cx = context(z, jnp)
    return softmax.parts(z, cx, exponentials(z, cx, RowStats(m, rest)))


@_parts.defjvp
def _parts_jvp(name: str, primals: Any, tangents: Any) -> tuple[softmax.Parts, softmax.Parts]:
    got = _parts(*primals, name)
    v = tangents[0]
    average = jax.lax.psum(jnp.sum(got.p * v, axis=-1, keepdims=True), name)  # type: ignore[no-untyped-call]
    moved = got.p * (v - average)
    return got, softmax.Parts(jnp.squeeze(average, axis=-1), average - v, moved, -moved)
