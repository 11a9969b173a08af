"""What ranks of test_spread_libraries.py do: what autograd asks of a loss that is spread."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.autograd.forward_ad import dual_level, make_dual

import xloss
from spread import GROUP


def autograd() -> None:
    """First order only, said clearly; nothing but the slice and O(rows) is saved."""
    ranks, rank, number = GROUP
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(0, 10, (6, 9), generator=generator)
    y[2, 3] = -100
    z = torch.randn(6, 9, 10, generator=generator)
    mine = z.tensor_split(number, -1)[rank].clone().requires_grad_()
    saved: list[int] = []

    def keep(t: Any) -> Any:
        if t.data_ptr() != mine.data_ptr():
            saved.append(t.numel())
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        value = xloss.vocab_parallel_cross_entropy(mine, y, group=ranks)
    assert sum(saved) <= 10 * y.numel(), saved
    with pytest.raises(RuntimeError, match="second derivatives are not offered"):
        torch.autograd.grad(value, mine, create_graph=True)
    weight = torch.ones(mine.shape[-1], 9)
    x = torch.ones(*y.shape, 9) / 8

    def both(mine: Any, weight: Any) -> Any:
        first = xloss.vocab_parallel_cross_entropy(mine, y, group=ranks)
        return first + xloss.linear_cross_entropy(x, weight, y, group=ranks)

    with pytest.raises(RuntimeError, match=r"group: ranks do not meet under torch\.func"):
        torch.func.grad(both)(mine.detach(), weight)
    with dual_level(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of its own
        dual = make_dual(weight, weight)
        with pytest.raises(RuntimeError, match="group: not under forward-mode"):
            xloss.linear_cross_entropy(x, dual, y, group=ranks)
    value = xloss.vocab_parallel_cross_entropy(mine, y, group=ranks)
    with torch.no_grad():
        mine += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()
    half = mine.detach().bfloat16().requires_grad_()
    value = xloss.vocab_parallel_cross_entropy(half, y, group=ranks)
    value.backward()
    assert (value.dtype, half.grad.dtype) == (torch.float32, torch.bfloat16)  # type: ignore[union-attr]
    pair = dist.new_group([0, 1])
    if rank > 1:
        with pytest.raises((TypeError, ValueError), match="group"):
            xloss.vocab_parallel_cross_entropy(half, y, group=pair)
