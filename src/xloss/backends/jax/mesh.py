"""JAX: arrays whose type says how they are spread over a mesh of devices, and how to sum them."""

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
EVERYWHERE: Any = PartitionSpec()  # type: ignore[no-untyped-call]  # the same on every device


def automatic(function: Callable[..., Any], out: Any, *trees: Any) -> Any:
    """Call a function that leaves to the compiler how each array in it is spread.

    An array that is spread along an axis of type Explicit, the default of jax.make_mesh, refuses
    gathers, slices and updates whose layout does not follow from that of their operands. `out`
    says how the results are spread. To be called inside a jitted function.
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
    """Return how an array is spread along its axes but the last `drop`."""
    if _explicit_mesh(x) is None:
        return EVERYWHERE
    known = tuple(jax.typeof(x).sharding.spec)
    return PartitionSpec(*known[: x.ndim - drop])  # type: ignore[no-untyped-call]  # JAX's


def _plus(a: Pair, b: Pair) -> Pair:
    """Add two numbers of the form high + low, by Knuth's two-sum, which loses nothing of high."""
    high = a[0] + b[0]
    added = high - a[0]
    error = (a[0] - (high - added)) + (b[0] - added)
    return high, a[1] + b[1] + jnp.where(error == error, error, 0.0)


@jax.custom_jvp
def pair_sum(x: Array) -> Array:
    """Sum all elements in pairs of floats, by one reduction of the compiler.

    XLA's CPU compiler changes the order of a reduction's additions, so that on a CPU the result is
    little better than a plain sum.
    """
    zero = jnp.zeros((), x.dtype)
    high, low = lax.reduce((x, jnp.zeros_like(x)), (zero, zero), _plus, tuple(range(x.ndim)))
    return high + low


@pair_sum.defjvp
def _pair_sum_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return pair_sum(*primals), jnp.sum(*tangents)


def whole_sum(x: Array) -> Array | None:
    """Sum an array that cannot be cut into halves; return None for one that can.

    It cannot where its number of rows is a symbol, or its rows are spread along an explicit axis.
    """
    symbolic = not all(isinstance(n, int) for n in x.shape)
    return pair_sum(x) if symbolic or _explicit_mesh(x) is not None else None


UNCUT_SUMS["jax"] = whole_sum
