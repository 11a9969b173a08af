"""JAX: the parts of a softmax, with derivatives of their own."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ..._arrays.context import context
from ..._arrays.inspect import Array
from ...core import softmax


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
