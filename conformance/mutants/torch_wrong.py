"""Cross-entropy on PyTorch with one mistake each, of those that autograd makes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .numpy_right import Given
from .torch_right import CrossEntropy


class Backward(torch.autograd.Function):
    """The value as it is; its upstream gradient as a function of what came."""

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


class UpstreamIgnored(CrossEntropy, family="upstream", rule="gradient"):
    def result(self, value: Tensor) -> Tensor:
        return changed(value, torch.ones_like)


class Detached(CrossEntropy, family="upstream", rule="gradient"):
    """A metric taken for a loss: nothing is trained by it."""

    def result(self, value: Tensor) -> Tensor:
        return value.detach()


class UpstreamOfTheFirstRow(CrossEntropy, family="upstream", rule="gradient"):
    """Fused kernels that multiply the stored gradient by one number."""

    def result(self, value: Tensor) -> Tensor:
        return changed(value, lambda u: u.flatten()[:1].expand(u.numel()).view_as(u))


class DenominatorDetached(CrossEntropy, family="soft gradient", rule="targets gradient"):
    """The mean's denominator depends on soft targets, and its gradient is left out."""

    def divisor(self, mass: Tensor) -> Tensor:
        return mass.detach().sum()


class Plain(CrossEntropy):
    """Rows of plain operations under autograd, for index and soft targets without options."""

    def rows(self, x: Tensor, t: Tensor, o: Given) -> tuple[Tensor, Tensor]:
        loss, mass = super().rows(x, t, o)
        if o.label_smoothing or o.z_loss or o.softcap or not x.numel() or not self.offers(x):
            return loss, mass
        s, keep, bad, w = map(torch.from_numpy, (o.s, o.keep, o.bad, o.w))
        own = torch.where(keep & ~bad, s, 0.0) * self.terms(x, t * w).sum(-1)
        return torch.where(bad, math.nan, torch.where(keep, own, 0.0)), mass

    def offers(self, x: Tensor) -> bool:
        raise NotImplementedError

    def terms(self, x: Tensor, a: Tensor) -> Tensor:
        raise NotImplementedError


class MaximumOfOneTied(Plain, family="ties", rule="gradient"):
    """Σ exp(z - m) of those below m; `max` gives the gradient of m to one of the tied."""

    def offers(self, x: Tensor) -> bool:
        tied = (x == x.amax(-1, keepdim=True)).sum(-1) > 1
        return bool(x.isfinite().all() and tied.any())

    def terms(self, x: Tensor, a: Tensor) -> Tensor:
        top = x.max(-1, keepdim=True).values
        at_top = x == top
        below = torch.where(at_top, 0.0, torch.exp(x - top)).sum(-1, keepdim=True)
        rest = below + (at_top.sum(-1, keepdim=True) - 1)
        return a * (torch.log1p(rest) + (top - x))


class WhereAfterTheLogarithm(Plain, family="absent", rule="nothing"):
    """`where` picks the value, but autograd multiplies what it did not pick by 0."""

    def offers(self, x: Tensor) -> bool:
        return bool((~x.isfinite()).any())

    def terms(self, x: Tensor, a: Tensor) -> Tensor:
        return torch.where(a == 0, 0.0, a * (x.logsumexp(-1, keepdim=True) - x))


class TargetsGradient(CrossEntropy):
    """The gradient to soft targets is changed on its way back."""

    def rows(self, x: Tensor, t: Tensor, o: Given) -> tuple[Tensor, Tensor]:
        return super().rows(x, changed(t, lambda u: self.change(u, x, o)), o)

    def change(self, upstream: Tensor, x: Tensor, o: Given) -> Tensor:
        raise NotImplementedError


class TargetsDetached(TargetsGradient, family="soft gradient", rule="targets gradient"):
    """Soft targets are constants: a teacher learns nothing."""

    def change(self, upstream: Tensor, x: Tensor, o: Given) -> Tensor:
        return torch.zeros_like(upstream)


class TargetsWithoutClassWeights(TargetsGradient, family="soft gradient", rule="targets gradient"):
    """The gradient to soft targets knows no class weights."""

    def change(self, upstream: Tensor, x: Tensor, o: Given) -> Tensor:
        w = torch.from_numpy(o.w)
        return torch.where(w == 0, upstream, upstream / w)


class MaskedTargetNaN(TargetsGradient, family="soft gradient", rule="targets gradient"):
    """The gradient to a target of 0 on a masked class is 0·inf."""

    def change(self, upstream: Tensor, x: Tensor, o: Given) -> Tensor:
        return torch.where(x == -math.inf, math.nan, upstream)
