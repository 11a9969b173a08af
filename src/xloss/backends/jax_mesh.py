"""JAX: arrays that say in their type how they are spread over a mesh of devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import PartitionSpec

from .._xp import Array


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
    mesh = getattr(getattr(jax.typeof(x), "sharding", None), "mesh", None)
    explicit = mesh is not None and jax.sharding.AxisType.Explicit in mesh.axis_types
    return mesh if explicit else None


def spread_as(x: Array, drop: int = 0) -> PartitionSpec:
    """Return how an array is spread, less the last `drop` axes."""
    if _explicit_mesh(x) is None:
        return PartitionSpec()
    known = tuple(jax.typeof(x).sharding.spec)
    return PartitionSpec(*known[: x.ndim - drop])
