"""JAX: the parts of a softmax, with derivatives of their own."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ..._arrays.context import context
from ..._arrays.inspect import Array
from ...core import few_classes, softmax
from ...core.row_stats import exponentials


@jax.custom_jvp
def softmax_parts(z: Array) -> softmax.SoftmaxParts:
    """Return a softmax's parts, whose derivatives are their own: autodiff errs on ties."""
    return softmax.parts(z, context(z, jnp))


@softmax_parts.defjvp
def _softmax_parts_jvp(
    primals: Any, tangents: Any
) -> tuple[softmax.SoftmaxParts, softmax.SoftmaxParts]:
    got = softmax_parts(*primals)
    (v,) = tangents
    average = jnp.sum(got.p * v, axis=-1, keepdims=True)
    moved = got.p * (v - average)
    return got, softmax.SoftmaxParts(jnp.squeeze(average, axis=-1), average - v, moved, -moved)


@jax.custom_jvp
def slot_parts(z: Array, indices: Array) -> few_classes.SlotParts:
    """Return the softmax at the slots: picked out of that of all classes, XLA would store that."""
    cx = context(z, jnp)
    e = exponentials(z, cx)
    m = jnp.squeeze(e.max, axis=-1)
    gap = few_classes.gaps_at(cx.gather_many(z, indices), m, cx)
    return few_classes.slot_parts(gap, m, e.tail_sum, cx)


@slot_parts.defjvp
def _slot_parts_jvp(
    primals: Any, tangents: Any
) -> tuple[few_classes.SlotParts, few_classes.SlotParts]:
    z, indices = primals
    got, v = slot_parts(z, indices), tangents[0]
    average = jnp.sum(softmax_parts(z).p * v, axis=-1, keepdims=True)
    at_slots = jnp.take_along_axis(v, indices, axis=-1)
    moved = got.p * (at_slots - average)
    return got, few_classes.SlotParts(moved, -moved)
