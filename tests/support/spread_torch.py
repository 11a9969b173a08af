"""What ranks of test_spread_libraries.py do: what autograd asks of a loss that is spread."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.autograd.forward_ad import dual_level, make_dual

import xloss
from spread import GROUP

CLASSES = 10  # of which 4 ranks hold 3, 3, 3 and 1
EPS = 2.0**-52


def drawn() -> tuple[Any, Any, Any, Any]:
    rng = np.random.default_rng(0)
    z = np.round(rng.standard_normal((6, 9, CLASSES)) * 4096) / 1024
    z[0, 0] = -60.0
    z[0, 0, 1] = 0.0  # a confident row
    z[1, :, :5] = -np.inf
    y = rng.integers(0, CLASSES, (6, 9))
    y[0, 0], y[2, 3], y[1] = 1, -100, CLASSES - 1
    sample = rng.integers(0, 3, (6, 9)) / 2
    weight = rng.integers(1, 9, CLASSES) / 8
    return tuple(map(torch.from_numpy, (z, y, weight, sample)))  # type: ignore[return-value]


def close(got: Any, want: Any, ulp: float, what: Any) -> None:
    got = got.full_tensor() if hasattr(got, "full_tensor") else got
    got, want = got.detach(), want.detach()
    assert got.dtype == want.dtype, what
    assert got.shape == want.shape, (what, got.shape, want.shape)
    off = (got - want).abs().max() / want.abs().max()
    assert off <= ulp * EPS, (what, float(off) / EPS)
    tail = want.abs() < 1e-6
    assert ((got - want).abs() <= 8 * EPS * want.abs())[tail].all(), what


def autograd() -> None:
    """First order only, said clearly; nothing but the slice and O(rows) is saved."""
    ranks, rank, number = GROUP
    z, y, _, _ = drawn()
    mine = z.tensor_split(number, -1)[rank].float().clone().requires_grad_()
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
