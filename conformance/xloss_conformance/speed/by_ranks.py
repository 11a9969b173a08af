"""PyTorch processes that share the classes of one loss: xloss and its peers, called in a rank."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

import xloss

from ..conventions.torch import F
from .clock import Call
from .contenders import Contender, NotOffered
from .cuts import spots
from .work import Data, Work

Tensor = Any
Loss = Callable[[Tensor, Tensor], Tensor]


def shard(work: Work) -> Data:
    """Return the logits of this rank's classes, and the labels of all rows."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    if work.classes % ranks:
        raise ValueError(f"{work.classes} classes cannot be cut into {ranks} equal parts")
    made = np.random.default_rng((0, rank)).standard_normal(
        (*work.rows, work.classes // ranks), dtype=np.float32
    )
    made *= np.float32(3.0)
    labels = np.random.default_rng(0).integers(0, work.classes, work.rows)
    both: list[Any] = [torch.from_numpy(a) for a in (made, labels)]
    return Data(*both)


def _call(loss: Loss, work: Work, given: Data, within: Callable[[], Any] = nullcontext) -> Call:
    """Return the loss, with `.backward()` where a gradient is asked for."""
    logits: Tensor = given.x
    x = logits.detach().requires_grad_(work.gradient)
    own = given.y - dist.get_rank() * x.shape[-1]

    def run() -> Tensor:
        value = loss(x, given.y)
        if work.gradient:
            value.backward()
        return value

    def before() -> None:
        x.grad = None

    def answer(got: Tensor) -> tuple[float, Any]:
        whole = got.detach()
        value = whole.full_tensor() if hasattr(whole, "full_tensor") else whole
        grad = None if x.grad is None else spots(x.grad.numpy()[::step], own.numpy()[::step])
        return float(value), grad

    step = max(1, len(x) // 64)
    return Call(run, before=before, within=within, answer=answer)


def _ours(work: Work, given: Data, threads: int) -> Call:
    loss: Callable[..., Any] | None = getattr(xloss, "vocab_parallel_cross_entropy", None)
    if loss is None:
        raise NotOffered("this version of xloss has no vocab_parallel_cross_entropy")
    return _call(partial(loss, group=dist.group.WORLD), work, given)


def _loss_parallel(work: Work, given: Data, threads: int) -> Call:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Shard
    from torch.distributed.tensor.parallel import loss_parallel

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))

    def loss(x: Tensor, y: Tensor) -> Tensor:
        cut = DTensor.from_local(x, mesh, [Shard(1)], run_check=False)
        return torch.nn.functional.cross_entropy(cut, y)

    return _call(loss, work, given, loss_parallel)


class _ByHand(torch.autograd.Function):
    """The algorithm of Megatron-LM's tensor-parallel loss, but that the logits are kept.

    Three reductions: of the maxima, of the labels' logits, of the sums; backward has the softmax.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        most = x.amax(-1)
        dist.all_reduce(most, dist.ReduceOp.MAX)
        own = y - dist.get_rank() * x.shape[-1]
        away = (own < 0) | (own >= x.shape[-1])
        own.masked_fill_(away, 0)
        e = x - most[:, None]
        picked = e.gather(-1, own[:, None])[:, 0].masked_fill_(away, 0)
        dist.all_reduce(picked)
        total = e.exp_().sum(-1)
        dist.all_reduce(total)
        e.div_(total[:, None])
        ctx.save_for_backward(e, own, away)
        return (total.log_() - picked).mean()

    @staticmethod
    def backward(ctx: Any, up: Tensor) -> tuple[Tensor, None]:
        grad, own, away = ctx.saved_tensors
        grad.scatter_add_(-1, own[:, None], (away.to(grad.dtype) - 1)[:, None])
        return grad.mul_(up / len(grad)), None


def _by_hand(work: Work, given: Data, threads: int) -> Call:
    return _call(_ByHand.apply, work, given)


CONTENDERS = {
    c.name: c
    for c in (
        Contender(
            "xloss vocab-parallel",
            "torch",
            "vocab_parallel_cross_entropy(shard, labels, group=group); .backward()",
            _ours,
        ),
        Contender(
            "loss_parallel",
            "torch",
            f"{F}.cross_entropy of a DTensor, Shard(1), under "
            "torch.distributed.tensor.parallel.loss_parallel(); .backward()",
            _loss_parallel,
            True,
            "torch",
        ),
        Contender(
            "torch by hand",
            "torch",
            "Megatron-LM's algorithm as an autograd.Function that leaves the logits as they are",
            _by_hand,
            True,
            "torch",
        ),
    )
}
