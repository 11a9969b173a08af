"""JAX: the parts of a softmax, with derivatives of their own."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from ..._arrays.context import context
from ..._arrays.inspect import Array
from ...core import few_classes, softmax
from ...core.row_stats import RowStats, exponentials


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def softmax_parts(z: Array, axis: str | None = None, of_rows: Any = None) -> softmax.SoftmaxParts:
    """Return a softmax's parts, whose derivatives are their own: autodiff errs on ties.

    Of classes that are split along a mesh axis, `of_rows` are the whole rows' maxima and tail sums.
    """
    cx = context(z, jnp)
    return softmax.parts(z, cx, None if axis is None else exponentials(z, cx, RowStats(*of_rows)))


@softmax_parts.defjvp
def _softmax_parts_jvp(
    axis: str | None, primals: Any, tangents: Any
) -> tuple[softmax.SoftmaxParts, softmax.SoftmaxParts]:
    z, of_rows = primals
    got, v = softmax_parts(z, axis, of_rows), tangents[0]
    average = jnp.sum(got.p * v, axis=-1, keepdims=True)
    if axis is not None:
        average = jax.lax.psum(average, axis)  # type: ignore[no-untyped-call]
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
