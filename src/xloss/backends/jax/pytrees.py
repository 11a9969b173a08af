"""JAX: records that pass through its transformations as the arrays in them."""

from __future__ import annotations

from functools import cache

import jax


@cache
def register(kind: type, arrays: tuple[str, ...], constants: tuple[str, ...]) -> None:
    """Make a frozen dataclass a pytree, once."""
    jax.tree_util.register_dataclass(kind, arrays, constants)
