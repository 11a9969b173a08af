"""JAX: the parts of a softmax, with derivatives of their own."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from .._xp import Array, context
from ..core import softmax


@jax.custom_jvp
def softmax_parts(z: Array) -> softmax.Parts:
    """Return a softmax's parts, whose derivatives are their own: autodiff errs on ties."""
    return softmax.parts(z, context(z, jnp))


@softmax_parts.defjvp
def _softmax_parts_jvp(primals: Any, tangents: Any) -> tuple[softmax.Parts, softmax.Parts]:
    got = softmax_parts(*primals)
    (v,) = tangents
    average = jnp.sum(got.p * v, axis=-1, keepdims=True)
    moved = got.p * (v - average)
    return got, softmax.Parts(jnp.squeeze(average, axis=-1), average - v, moved, -moved)
