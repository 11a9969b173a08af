"""PyTorch: the ranks of a torch.distributed process group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist

from ..._arrays.inspect import Array, in_torch_func

T = TypeVar("T")


def is_one(group: Any) -> bool:
    """Tell whether this is a process group."""
    return dist.is_available() and isinstance(group, dist.ProcessGroup)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def uncompiled(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Call a function outside the compiled graph, where ranks can exchange."""
    return function(*args, **kwargs)


class Ranks:
    """The ranks of a process group, whose timeout holds for every exchange."""

    def __init__(self, group: Any, device: Any) -> None:
        self.group, self.device = group, device
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        if in_torch_func():
            raise RuntimeError("group: ranks do not meet under torch.func")
        if self.rank < 0:
            raise ValueError("group: this process is not one of its ranks")

    def agree(self, facts: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Return the numbers of all ranks."""
        mine = torch.tensor(facts, dtype=torch.int64, device=self.device)
        every = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(every, mine, group=self.group)
        return [tuple(row) for row in torch.stack(every).tolist()]

    def maximum(self, x: Array) -> Array:
        """Return the largest over the ranks."""
        return self._reduced(x, dist.ReduceOp.MAX)

    def total(self, x: Array) -> Array:
        """Return the sum over the ranks."""
        return self._reduced(x, dist.ReduceOp.SUM)

    def _reduced(self, x: Array, op: Any) -> Array:
        """Reduce in place; NumPy arrays are views of tensors in host memory."""
        if isinstance(x, (np.ndarray, np.generic)):
            x = np.ascontiguousarray(x).reshape(x.shape)
            dist.all_reduce(torch.from_numpy(x), op, group=self.group)
            return x
        x = x.contiguous()
        dist.all_reduce(x, op, group=self.group)
        return x
