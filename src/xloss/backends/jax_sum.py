"""JAX: a sum in pairs of floats, for arrays of any sharding and of lengths not known yet."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from .._xp import Array
from ..core.reduce import PAIRS

Pair = tuple[Array, Array]


def _plus(a: Pair, b: Pair) -> Pair:
    """Add two unevaluated sums high + low, by Knuth's two-sum."""
    high = a[0] + b[0]
    back = high - a[0]
    error = (a[0] - (high - back)) + (b[0] - back)
    return high, a[1] + b[1] + jnp.where(error == error, error, 0.0)


@jax.custom_jvp
def pair_sum(x: Array) -> Array:
    """Sum all elements.

    One reduction of the compiler's own: cutting an array into halves fails where its rows are
    spread over an explicit mesh axis, and where their number is a symbol.
    """
    zero = jnp.zeros((), x.dtype)
    high, low = lax.reduce((x, jnp.zeros_like(x)), (zero, zero), _plus, tuple(range(x.ndim)))
    return high + low


@pair_sum.defjvp
def _pair_sum_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return pair_sum(*primals), jnp.sum(*tangents)


PAIRS["jax"] = pair_sum
