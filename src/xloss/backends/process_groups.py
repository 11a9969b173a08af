"""Process groups: what the ranks that share a call exchange, whatever connects them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar
from zlib import crc32

from .._arrays.context import Context
from .._arrays.inspect import Array, compiling
from ..core.class_shards import Shard

REFUSED, TAKES_PART = 0, 1
T = TypeVar("T")


class Group(Protocol):
    """What a group of ranks offers. The arrays that it returns are new, and may be written to."""

    @property
    def rank(self) -> Any:
        """Return this rank's number: an array where one compiled program runs on all ranks."""

    @property
    def size(self) -> int:
        """Return the number of ranks."""

    def agree(self, facts: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Return the facts of every rank, in rank order; each gives equally many numbers."""

    def maximum(self, x: Array) -> Array:
        """Return the maximum over the ranks, elementwise, of numbers that are not NaN."""

    def total(self, x: Array) -> Array:
        """Return the sum over the ranks, elementwise."""


def of(group: Any, cx: Context) -> Group:
    """Return the group that a user's `group` argument names, for arrays of a library."""
    if cx.library == "torch":
        from .torch import process_group

        if process_group.is_one(group):
            return process_group.Ranks(group, cx.device)
        expected = "a torch.distributed ProcessGroup"
    elif cx.library == "jax":
        if isinstance(group, str):
            from .jax import mesh_axis

            return mesh_axis.Axis(group)
        expected = "the name of a mesh axis, inside shard_map"
    elif cx.library in ("numpy", "cupy"):
        if type(group).__module__.partition(".")[0] == "mpi4py":
            from . import mpi

            return mpi.Ranks(group)
        expected = "an mpi4py communicator"
    else:
        raise TypeError(f"group: arrays of {cx.library} are spread over no group; see Dask")
    got = group if isinstance(group, str) else type(group).__name__
    raise TypeError(f"group: expected {expected} for arrays of {cx.library}, got {got!r}")


def uncompiled(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Call a function; where torch.compile is tracing, outside of its graph."""
    if not compiling():
        return function(*args, **kwargs)
    from .torch import process_group

    result: T = process_group.uncompiled(function, *args, **kwargs)
    return result


def fingerprint(value: Any) -> int:
    """Return a number by which ranks compare a value without exchanging it."""
    return crc32(repr(value).encode())


def shard(group: Group, classes: int, facts: dict[str, int], name: str) -> Shard:
    """Return which classes this rank has, once all ranks have compared their facts.

    Its size does not depend on the arguments, so that ranks with different arguments can complete
    it. Without it they would wait for each other in a later exchange, or add up the numbers of
    different rows. `facts` maps the beginning of an error message to a number that must agree.
    """
    every = group.agree((TAKES_PART, classes, *facts.values()))
    for rank, (status, *_) in enumerate(every):
        if status != TAKES_PART:
            raise RuntimeError(f"group: rank {rank} refused its arguments; see its own error")
    for i, what in enumerate(facts, 2):
        for rank, theirs in enumerate(every):
            if theirs[i] != every[0][i]:
                raise ValueError(f"{what} on rank {rank} than on rank 0")
    sizes = [theirs[1] for theirs in every]
    if not sum(sizes):
        raise ValueError(f"{name}: expected at least one class on some rank")
    start = sum(sizes[: group.rank]) if isinstance(group.rank, int) else group.rank * classes
    return Shard(start, classes, sum(sizes), max(sizes))


def refuse(group: Group, count: int) -> None:
    """Tell the other ranks that this one has refused its arguments: they raise, and do not wait."""
    group.agree((REFUSED,) + (0,) * (count + 1))
