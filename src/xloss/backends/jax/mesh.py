"""JAX: arrays spread over a mesh of devices, which say so in their type, and the sum of such."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from ..._arrays.inspect import Array
from ..._arrays.standard import UNCUT_SUMS

Pair = tuple[Array, Array]
EVERYWHERE: Any = PartitionSpec()  # type: ignore[no-untyped-call]  # the same on each device


def automatic(function: Callable[..., Any], out: Any, *trees: Any) -> Any:
    """Call a function on arrays, within it leaving it to the compiler how each is spread.

    Arrays spread along an axis of type Explicit, the default of jax.make_mesh, refuse gathers,
    slices and updates whose layout does not follow from their operands'. `out` says how the
    results are spread. For a call inside a jitted function.
    """
    mesh = next(filter(None, map(_explicit_mesh, jax.tree.leaves(trees))), None)
    if mesh is None:
        return function(*trees)
    named = zip(mesh.axis_names, mesh.axis_types, strict=True)
    axes = tuple(n for n, kind in named if kind == jax.sharding.AxisType.Explicit)
    with jax.sharding.use_abstract_mesh(mesh):
        return jax.sharding.auto_axes(function, axes=axes, out_sharding=out)(*trees)


def _explicit_mesh(x: Array) -> Any:
    """Return the mesh that an array's type names, or None where no axis of it is Explicit."""
    kinds = getattr(jax.sharding, "AxisType", None)
    if kinds is None or not hasattr(jax, "typeof"):  # a JAX before explicit axes
        return None
    mesh = getattr(getattr(jax.typeof(x), "sharding", None), "mesh", None)
    explicit = mesh is not None and kinds.Explicit in mesh.axis_types
    return mesh if explicit else None


def spread_as(x: Array, drop: int = 0) -> Any:
    """Return how an array is spread, less the last `drop` axes."""
    if _explicit_mesh(x) is None:
        return EVERYWHERE
    known = tuple(jax.typeof(x).sharding.spec)
    return PartitionSpec(*known[: x.ndim - drop])  # type: ignore[no-untyped-call]  # JAX's


def _plus(a: Pair, b: Pair) -> Pair:
    """Add two unevaluated sums high + low, by Knuth's two-sum."""
    high = a[0] + b[0]
    back = high - a[0]
    error = (a[0] - (high - back)) + (b[0] - back)
    return high, a[1] + b[1] + jnp.where(error == error, error, 0.0)


@jax.custom_jvp
def pair_sum(x: Array) -> Array:
    """Sum all elements.

    One reduction of the compiler's own, in pairs of floats. XLA's CPU compiler reorders what a
    reduction adds, so that there it is little better than a plain sum.
    """
    zero = jnp.zeros((), x.dtype)
    high, low = lax.reduce((x, jnp.zeros_like(x)), (zero, zero), _plus, tuple(range(x.ndim)))
    return high + low


@pair_sum.defjvp
def _pair_sum_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return pair_sum(*primals), jnp.sum(*tangents)


def whole_sum(x: Array) -> Array | None:
    """Sum an array that cannot be cut into halves; None for one that can.

    Its number of rows is a symbol, or its rows are spread over an explicit mesh axis.
    """
    symbolic = not all(isinstance(n, int) for n in x.shape)
    return pair_sum(x) if symbolic or _explicit_mesh(x) is not None else None


UNCUT_SUMS["jax"] = whole_sum
