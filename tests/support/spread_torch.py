"""What ranks of test_spread_libraries.py do: DTensors, and what autograd asks of a spread loss."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.autograd.forward_ad import dual_level, make_dual
from torch.distributed.tensor import (
    DTensor,
    Partial,
    Replicate,
    Shard,
    distribute_tensor,
    init_device_mesh,
)

import xloss
from spread import GROUP

CLASSES = 10  # of which 4 ranks hold 3, 3, 3 and 1
EPS = 2.0**-52


def arrays() -> tuple[Any, Any, Any, Any]:
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
    got, want = got.detach(), want.detach()
    assert got.dtype == want.dtype, what
    assert got.shape == want.shape, (what, got.shape, want.shape)
    off = (got - want).abs().max() / want.abs().max()
    assert off <= ulp * EPS, (what, float(off) / EPS)
    tail = want.abs() < 1e-6
    assert ((got - want).abs() <= 8 * EPS * want.abs())[tail].all(), what


def dtensors() -> None:
    """Values and gradients of every layout are the dense ones; results are spread alike."""
    number = GROUP[2]
    z, y, weight, sample = arrays()
    line = init_device_mesh("cpu", (number,))
    layouts: list[Any] = [(line, [Shard(2)]), (line, [Shard(0)]), (line, [Replicate()])]
    if number == 4:
        square = init_device_mesh("cpu", (2, 2))
        layouts += [(square, [Shard(0), Shard(2)]), (square, [Shard(2), Shard(1)])]
    weighted = {"weight": weight, "sample_weight": sample}
    options: list[dict[str, Any]] = [
        {},
        {"z_loss": 0.1},
        {"axis": 1},
        weighted,
        {"reduction": "none"},
        {**weighted, "label_smoothing": 0.1, "z_loss": 0.1, "softcap": 8.0},
        {"sample_weight": sample, "reduction": "sum"},
        {"normalizer": 7.0},
    ]
    for mesh, placements in layouts:
        for given in options:
            x, placed = z, list(placements)
            if "axis" in given:
                x = z.movedim(2, 1).contiguous()
                moved = {0: 0, 1: 2, 2: 1}
                placed = [Shard(moved[p.dim]) if p.is_shard() else p for p in placements]
            what = placed, list(given)
            mine = distribute_tensor(x, mesh, placed).requires_grad_()
            whole = x.clone().requires_grad_()
            got, want = (
                xloss.cross_entropy(mine, y, **given),
                xloss.cross_entropy(whole, y, **given),
            )
            got.sum().backward()
            want.sum().backward()
            assert isinstance(got, DTensor), what
            assert mine.grad.placements == tuple(placed), what
            if "reduction" not in given:
                assert got.placements == (Replicate(),) * len(placed), what
            ulp = 8 + given.get("softcap", 0.0)
            close(got.full_tensor(), want, ulp, what)
            close(mine.grad.full_tensor(), whole.grad, ulp, what)
            value, grad = xloss.value_and_grad(xloss.cross_entropy)(mine.detach(), y, **given)
            close(value.full_tensor(), want, ulp, what)
            close(grad.full_tensor(), whole.grad, ulp, what)
    spread_targets(line, z, y, weight)
    binary(line, z)
    refused(line, z, y)


def spread_targets(mesh: Any, z: Any, y: Any, weight: Any) -> None:
    """Labels, weights and soft targets that are DTensors themselves."""
    whole = z.clone().requires_grad_()
    want = xloss.cross_entropy(whole, y, weight=weight)
    want.backward()
    mine = distribute_tensor(z, mesh, [Shard(2)]).requires_grad_()
    labels, weights = (
        distribute_tensor(y, mesh, [Shard(0)]),
        distribute_tensor(weight, mesh, [Shard(0)]),
    )
    got = xloss.cross_entropy(mine, labels, weight=weights)
    got.backward()
    close(got.full_tensor(), want, 8, "labels")
    close(mine.grad.full_tensor(), whole.grad, 8, "labels")
    finite = torch.where(torch.isinf(z), 0.5, z)
    t = torch.softmax(finite, -1)
    soft = t.clone().requires_grad_()
    want = xloss.cross_entropy(finite, soft, reduction="sum")
    want.backward()
    theirs = distribute_tensor(t, mesh, [Shard(0)]).requires_grad_()
    x = distribute_tensor(finite, mesh, [Shard(0)])
    got = xloss.cross_entropy(x, theirs, reduction="sum")
    got.backward()
    close(got.full_tensor(), want, 8, "soft")
    close(theirs.grad.full_tensor(), soft.grad, 8, "soft")
    for call in (xloss.cross_entropy, xloss.value_and_grad(xloss.cross_entropy, 1)):
        with pytest.raises(ValueError, match="targets: of a mean over rows on several ranks"):
            call(x, theirs)
    close(xloss.cross_entropy(x, theirs.detach()).full_tensor(), want / 54, 8, "soft")


def binary(mesh: Any, z: Any) -> None:
    """Losses without a class axis: every axis may be spread, the weights with it."""
    z = torch.where(torch.isinf(z), 0.5, z)
    t = torch.sigmoid(z.flip(0))
    weights = torch.linspace(1, 2, z.shape[-1]).double()
    options: list[dict[str, Any]] = [{}, {"reduction": "none"}, {"sample_weight": weights}]
    for given in [*options, {"pos_weight": weights}]:
        for at in range(3):
            mine = distribute_tensor(z, mesh, [Shard(at)]).requires_grad_()
            whole = z.clone().requires_grad_()
            loss = xloss.binary_cross_entropy_with_logits
            got, want = loss(mine, t, **given), loss(whole, t, **given)
            got.sum().backward()
            want.sum().backward()
            close(got.full_tensor(), want, 8, (at, given))
            close(mine.grad.full_tensor(), whole.grad, 8, (at, given))


def refused(mesh: Any, z: Any, y: Any) -> None:
    whole = torch.softmax(torch.where(torch.isinf(z), 0.5, z), -1)
    negative = torch.where(torch.arange(CLASSES) == 9, -1.0, 1.0).double()
    rows = distribute_tensor(z, mesh, [Shard(0)])
    with pytest.raises(ValueError, match="targets: negative"):
        # Rows on every rank: each reads its own.
        xloss.cross_entropy(distribute_tensor(z[:4], mesh, [Shard(0)]), -whole[:4], validate=True)
    with pytest.raises(ValueError, match=r"weight: negative at position \(9,\)"):
        xloss.cross_entropy(
            distribute_tensor(z, mesh, [Shard(2)]), y, weight=negative, validate=True
        )
    with pytest.raises(TypeError, match="DTensors are not taken"):
        xloss.linear_cross_entropy(rows, torch.ones(4, CLASSES).double(), y)
    mine = distribute_tensor(z, mesh, [Shard(2)])
    partial = DTensor.from_local(z, mesh, [Partial()], run_check=False)
    bad = y + 1 + 200 * (y < 0)
    for x, t, message in (
        (partial, y, "redistribute"),
        (mine, torch.softmax(z, -1), "sharded along the class axis"),
        (mine, bad, "label 10 at position"),
    ):
        with pytest.raises((IndexError, ValueError), match=message):
            xloss.cross_entropy(x, t)
    assert torch.isnan(xloss.cross_entropy(mine, bad, validate=False).full_tensor())


def autograd() -> None:
    """First order only, said clearly; nothing but the slice and O(rows) is saved."""
    ranks, rank, number = GROUP
    z, y, _, _ = arrays()
    mine = z.tensor_split(number, -1)[rank].float().clone().requires_grad_()
    saved: list[int] = []

    def keep(t: Any) -> Any:
        if t.data_ptr() != mine.data_ptr():
            saved.append(t.numel())
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        value = xloss.vocab_parallel_cross_entropy(mine, y, group=ranks)
    assert sum(saved) <= 10 * y.numel(), saved
    (grad,) = torch.autograd.grad(value, mine, create_graph=False, retain_graph=True)
    (again,) = torch.autograd.grad(value, mine)
    assert torch.equal(grad, again)
    value = xloss.vocab_parallel_cross_entropy(mine, y, group=ranks)
    with pytest.raises(RuntimeError, match="second derivatives are not offered"):
        torch.autograd.grad(value, mine, create_graph=True)
    weight = torch.ones(mine.shape[-1], 9)
    x = torch.ones(*y.shape, 9) / 8

    def both(mine: Any, weight: Any) -> Any:
        first = xloss.vocab_parallel_cross_entropy(mine, y, group=ranks)
        return first + xloss.linear_cross_entropy(x, weight, y, group=ranks)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Dynamo's own, of what it meets between two graphs
        got = torch.compile(both, backend="eager")(mine, weight)
    torch.testing.assert_close(got, both(mine, weight), rtol=1e-6, atol=0)
    with pytest.raises(RuntimeError, match=r"group: ranks do not meet under torch\.func"):
        torch.func.grad(both)(mine.detach(), weight)
    with pytest.raises(RuntimeError, match=r"group: ranks do not meet under torch\.func"):
        torch.func.grad(lambda w: xloss.linear_cross_entropy(x, w, y, group=ranks))(weight)
    with dual_level(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of its own
        dual = make_dual(weight, weight)
        with pytest.raises(RuntimeError, match="group: not under forward-mode"):
            xloss.linear_cross_entropy(x, dual, y, group=ranks)
    with torch.no_grad():
        changed = xloss.vocab_parallel_cross_entropy(mine, y, group=ranks)
    assert not changed.requires_grad
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
