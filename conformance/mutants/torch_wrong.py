"""Cross-entropy on PyTorch with one mistake each, of those that autograd makes."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

import xloss

from . import planted

right: Any = xloss.cross_entropy
mistake = partial(planted, arrays="torch")
of_targets = partial(mistake, "soft gradient", "targets gradient")


class Backward(torch.autograd.Function):
    """A tensor as it is; its upstream gradient as a function of what came."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, change: Any) -> Tensor:
        ctx.change = change
        return value.clone()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        return ctx.change(upstream), None


def changed(value: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    result: Tensor = Backward.apply(value, change)  # type: ignore[no-untyped-call]
    return result


@mistake("upstream", "gradient")
def detached(x: Tensor, t: Tensor, /, **options: Any) -> Any:
    """A metric taken for a loss: nothing is trained by it."""
    return right(x, t, **options).detach()


@mistake("ties", "gradient")
def maximum_of_one_tied(x: Tensor, t: Tensor, /) -> Tensor:
    """Σ exp(z - m) of those below m; `max` gives the gradient of m to one of the tied."""
    top = x.max(-1, keepdim=True).values
    at_top = x == top
    below = torch.where(at_top, 0.0, torch.exp(x - top)).sum(-1)
    rest = below + (at_top.sum(-1) - 1)
    return (torch.log1p(rest) + (top - x.gather(-1, t[:, None]))[:, 0]).mean()


@mistake("absent", "nothing")
def where_after_the_logarithm(x: Tensor, t: Tensor, /, *, where: Any = True) -> Tensor:
    """`where` picks the value, but autograd multiplies what it did not pick by 0."""
    rows = x.logsumexp(-1) - x.gather(-1, t[:, None])[:, 0]
    there = torch.as_tensor(where).expand(rows.shape)
    return torch.where(there, rows, 0.0).sum() / there.sum()


@of_targets()
def targets_without_class_weights(x: Tensor, t: Tensor, /, *, weight: Any, **options: Any) -> Any:
    """The gradient to soft targets knows no class weights."""
    return right(x, changed(t, lambda u: u / weight), weight=weight, **options)


@of_targets()
def masked_target_nan(x: Tensor, t: Tensor, /, **options: Any) -> Any:
    """The gradient to a target of 0 on a masked class is 0·inf."""
    masked = x == -math.inf
    return right(x, changed(t, lambda u: torch.where(masked, math.nan, u)), **options)


@of_targets()
def rows_without_targets_left_out(x: Tensor, t: Tensor, /, **options: Any) -> Any:
    """A row whose targets are all 0 is taken for absent, its gradient to them too."""
    return right(x, t, where=t.detach().any(-1), **options)
