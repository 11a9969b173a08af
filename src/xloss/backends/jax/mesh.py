"""JAX: arrays whose type says how they are spread over a mesh of devices, and how to sum them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from ..._arrays.context import Context, context
from ..._arrays.inspect import Array
from ..._arrays.standard import OWN_SUMS
from ...core.reduce import halved_sum, rescued

Pair = tuple[Array, Array]
Made = TypeVar("Made")
EVERYWHERE: Any = PartitionSpec()  # type: ignore[no-untyped-call]  # the same on every device


def automatic(function: Callable[..., Made], out: Any, *trees: Any) -> Made:
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
        made: Made = jax.sharding.auto_axes(function, axes=axes, out_sharding=out)(*trees)
        return made


def _explicit_mesh(x: Array) -> Any:
    """Return the mesh that an array's type names, or None where no axis of it is Explicit."""
    mesh = getattr(getattr(jax.typeof(x), "sharding", None), "mesh", None)
    explicit = mesh is not None and jax.sharding.AxisType.Explicit in mesh.axis_types
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


def _sum_of_pairs(cx: Context, x: Array) -> Array:
    """Sum all elements in pairs of floats, by one reduction of the compiler.

    XLA's CPU compiler changes the order of a reduction's additions, so that on a CPU the result is
    little better than a plain sum.
    """
    zero = jnp.zeros((), x.dtype)
    high, low = lax.reduce((x, jnp.zeros_like(x)), (zero, zero), _plus, tuple(range(x.ndim)))
    return high + low


def _sum_in_double(x: Array) -> Array:
    """Sum in float64, which a processor has though arrays of JAX's may not be of it."""
    with jax.enable_x64(True):
        double = lax.convert_element_type(x, np.float64)
        total = lax.reduce(double, np.float64(0), lax.add, tuple(range(x.ndim)))
        return lax.convert_element_type(total, x.dtype)


def _sum_in_pairs(x: Array) -> Array:
    """Sum in pairs of floats, cut into halves where the length is known and nothing is spread."""
    known = _explicit_mesh(x) is None and all(isinstance(n, int) for n in x.shape)
    return rescued(context(x, jnp), x, halved_sum if known else _sum_of_pairs)


@jax.custom_jvp
def whole_sum(x: Array) -> Array:
    """Sum an array exactly; its length may be a symbol, its rows be spread over a mesh axis."""
    if _explicit_mesh(x) is not None:
        return _sum_in_pairs(x)
    made: Array = lax.platform_dependent(x, cpu=_sum_in_double, default=_sum_in_pairs)
    return made


whole_sum.defjvps(lambda tangent, total, x: jnp.sum(tangent))
OWN_SUMS["jax"] = whole_sum
