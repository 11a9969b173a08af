"""Counts of what a loss over a sharded vocabulary sends and holds, in real processes.

A module of its own: the processes import it by name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor.parallel import loss_parallel
from torch.multiprocessing import reductions
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

RANKS, ROWS, CLASSES = (
    2,
    256,
    4096,
)  # what is held for a row or a class is under 0.1 byte an element
SHARD = ROWS * CLASSES // RANKS
KINDS = {
    "all_reduce": "all-reduce",
    "allreduce": "all-reduce",
    "all_gather": "all-gather",
    "allgather": "all-gather",
}
Loss = Callable[..., Any]
_weakly: Any = reductions.StorageWeakRef  # has no types
Around = Callable[[], AbstractContextManager[Any]]


class Watch(TorchDispatchMode):  # type: ignore[misc, no-untyped-call, unused-ignore]
    """Every collective with the bytes that this rank puts in; the most that new tensors hold."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.sent: list[tuple[str, int]] = []
        self.most = 0
        self._old: set[int] = set()
        self._new: dict[int, tuple[Any, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(issubclass(t, DTensor) for t in types):
            return NotImplemented  # comes again as the operations on its shards
        self._drop()
        self._old |= {key for key, _ in map(_storage, _plain(args))} - self._new.keys()
        out = func(*args, **(kwargs or {}))
        space, _, name = func._overloadpacket._qualified_op_name.partition("::")
        if space.endswith("c10d") or space.startswith("_c10d"):
            self._collective(name, args)
        for key, storage in map(_storage, _plain(out)):
            if key not in self._old and key not in self._new:
                self._new[key] = _weakly(storage), storage.nbytes()
        self.most = max(self.most, sum(nbytes for _, nbytes in self._new.values()))
        return out

    def _drop(self) -> None:
        self._new = {k: v for k, v in self._new.items() if not v[0].expired()}

    def _collective(self, name: str, args: Any) -> None:
        """Note it. What gathers has its results before its input, but for the functional ones."""
        name = name.strip("_")
        if name.startswith(("wrap_tensor", "wait_tensor")):
            return
        given = args[1] if name in ("allgather", "allgather_base") else args[0]
        kind = next((kind for start, kind in KINDS.items() if name.startswith(start)), name)
        self.sent.append((kind, sum(t.numel() * t.element_size() for t in _plain(given))))


def _plain(tree: Any) -> list[Any]:
    """Return the tensors that have memory: neither fake nor meta."""
    return [
        t
        for t in tree_leaves(tree)
        if type(t) in (torch.Tensor, torch.nn.Parameter) and t.device.type != "meta"
    ]


def _storage(tensor: Any) -> tuple[int, Any]:
    storage = tensor.untyped_storage()
    return storage._cdata, storage


def of_torch() -> tuple[Callable[[Any], Any], Loss, Around]:
    """Return how to shard, the loss and its context: torch's `loss_parallel`."""
    mesh = init_device_mesh("cpu", (RANKS,))

    def shard(local: Any) -> Any:
        return DTensor.from_local(local, mesh, [Shard(1)])

    return shard, F.cross_entropy, loss_parallel


def of_xloss() -> tuple[Callable[[Any], Any], Loss, Around]:
    """Return the same of `vocab_parallel_cross_entropy`."""
    import xloss

    def call(z: Any, y: Any, weight: Any = None, **options: Any) -> Any:
        mine = None if weight is None else weight.tensor_split(RANKS)[dist.get_rank()]
        return xloss.vocab_parallel_cross_entropy(
            z, y, group=dist.group.WORLD, weight=mine, **options
        )

    return lambda local: local, call, nullcontext


def count(rank: int, folder: str, whose: str, calls: list[tuple[str, dict[str, Any]]]) -> None:
    """Make every call, a dtype and options, as one of the ranks, and write what was counted."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", f"file://{folder}/meet", timeout=timedelta(seconds=60), rank=rank, world_size=RANKS
    )
    try:
        shard, loss, around = globals()[whose]()
        rng = torch.Generator().manual_seed(7)
        labels = torch.randint(CLASSES, (ROWS,), generator=rng)
        found = []
        for dtype, options in calls:
            if "weight" in options:
                options = options | {"weight": torch.ones(CLASSES)}
            logits = torch.randn(ROWS, CLASSES, generator=rng).to(getattr(torch, dtype))
            z = shard(logits.tensor_split(RANKS, 1)[rank].clone()).requires_grad_()
            with around():
                found.append(_counted(z, labels, partial(loss, **options)))
        Path(folder, f"{rank}.json").write_text(json.dumps(found))
    finally:
        dist.destroy_process_group()
    os._exit(0)  # gloo's threads abort, rarely, a process that ends by itself


def _counted(z: Any, labels: Any, loss: Loss) -> dict[str, Any]:
    saved: dict[int, int] = {}

    def pack(tensor: Any) -> Any:
        local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
        key, storage = _storage(local)
        saved[key] = storage.nbytes()
        return tensor

    try:
        with Watch() as forward, torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            value = loss(z, labels)
    except (RuntimeError, NotImplementedError) as refused:
        return {"refused": str(refused)}
    with Watch() as backward:
        value.backward()
    return {
        "loss": str(value.dtype),
        "saved": sum(saved.values()) / SHARD,
        "forward": forward.sent,
        "forward most": forward.most / SHARD,
        "backward": backward.sent,
        "backward most": backward.most / SHARD,
    }
