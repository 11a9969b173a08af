"""JAX: the devices along a mesh axis as a process group, inside shard_map."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from ..._arrays.inspect import Array


def varying(x: Array) -> frozenset[str]:
    """Return the axes of a shard_map along which it knows an array to differ."""
    kind: Any = jax.typeof(x)
    found = getattr(kind, "manual_axis_type", None)  # before JAX 0.10 the type's own vma
    return frozenset(kind.vma if found is None else found.varying)


class Axis(NamedTuple):
    """The devices along a named axis: they run one program, so that shapes and options agree."""

    name: str

    @property
    def size(self) -> int:
        """Return the number of devices."""
        try:
            return int(jax.lax.axis_size(self.name))
        except NameError as error:
            raise ValueError(
                f"group: no mesh axis {self.name!r} here; call inside shard_map over it"
            ) from error

    @property
    def rank(self) -> Any:
        """Return this device's number, which is known when the program runs."""
        return jax.lax.axis_index(self.name)

    def agree(self, facts: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Return the facts of every rank: the same, as all run one program."""
        return [facts] * self.size

    def maximum(self, x: Array) -> Array:
        """Return the maximum over the devices, elementwise."""
        return jax.lax.pmax(x, self.name)  # type: ignore[no-untyped-call]

    def total(self, x: Array) -> Array:
        """Return the sum over the devices, elementwise."""
        return jax.lax.psum(x, self.name)  # type: ignore[no-untyped-call]
