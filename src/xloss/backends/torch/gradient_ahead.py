"""PyTorch: gradients that were computed with the loss, and wait for backward."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import torch

from ..._arrays.inspect import Array, has_memory

# Where someone packs what autograd saves (activation checkpointing, offloading), a gradient kept
# beside it would defeat the purpose. PyTorch has no public way to ask, and before 2.8 none at all.
_packs = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)

# By the address of a token's memory, which is its alone while the token lives.
_waiting: dict[int, Array] = {}


def pays(engine: Any, classes: int) -> bool:
    """Tell whether a gradient is computed with the loss: of few classes, by a compiled engine.

    Its launch for both takes hardly longer than for either. Of many classes memory bounds it, and
    backward starts from saved statistics.
    """
    return classes < engine.save_stats_from and unpacked()


def unpacked() -> bool:
    """Tell whether nobody packs what autograd saves."""
    return _packs is not None and _packs(True) is None


def is_one(cotangent: Array) -> bool:
    """Tell whether a cotangent is the number 1, where it is a number that can be read."""
    return (
        has_memory(cotangent)
        and not cotangent.is_meta
        and not torch._C._functorch.is_legacy_batchedtensor(cotangent)
        and cotangent.item() == 1
    )


def token(gradient: Array | None) -> Array:
    """Return a tensor that stands for a gradient: a graph saves it, and sees no more of it.

    A compiled graph could return the gradient itself from its backward pass only as a copy, for an
    operation may not return what it is given. The token's memory holds nothing. When it is freed,
    because the graph is, so is a gradient that nobody has taken.
    """
    mark = np.zeros(1)
    if gradient is not None:
        address = mark.__array_interface__["data"][0]
        _waiting[address] = gradient
        weakref.finalize(mark, _waiting.pop, address, None).atexit = False
    return torch.from_numpy(mark)


def taken(mark: Array) -> Array | None:
    """Return the gradient that a token stands for, once; of a copy of the token, None."""
    return _waiting.pop(mark.data_ptr(), None)
