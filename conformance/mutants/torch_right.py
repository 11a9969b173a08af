"""Cross-entropy on PyTorch from the published rules alone: rows in float64, then autograd."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .checks import check


class Options(NamedTuple):
    """What a row's loss depends on beside logits and targets."""

    s: Tensor  # (N,)
    keep: Tensor  # (N,)
    bad: Tensor  # (N,): present rows whose label is no class
    w: Tensor  # (C,)
    label_smoothing: float
    z_loss: float
    softcap: float | None


def times(a: Tensor, b: Any) -> Tensor:
    """Return a · b, 0 where a is 0 whatever b is."""
    return torch.where(a == 0, 0.0, a * b)


def summed(a: Tensor) -> Tensor:
    """Return Σ along the last axis, kept, pairwise and with what the additions lose (Knuth)."""
    lost = torch.zeros_like(a)
    while a.shape[-1] > 1:
        half = a.shape[-1] // 2
        x, y, odd = a[..., :half], a[..., half : 2 * half], a[..., 2 * half :]
        both = x + y
        part = both - x
        error = (x - (both - part)) + (y - part)
        own = lost[..., :half] + lost[..., half : 2 * half] + error
        a, lost = torch.cat([both, odd], -1), torch.cat([own, lost[..., 2 * half :]], -1)
    return torch.where(a.isfinite(), a + lost, a) if a.shape[-1] else a.sum(-1, keepdim=True)


def near_one(weights: Tensor) -> Tensor:
    """Bring the largest near 1 by a power of 2, which changes no mean, and keeps sums finite."""
    most = int(torch.frexp(weights.abs().max()).exponent) if weights.numel() else 0
    half = most // 2  # 2^-most itself may be infinite
    return weights * 2.0**-half * 2.0 ** (half - most)


def row_terms(x: Tensor, t: Tensor, o: Options) -> tuple[Tensor, ...]:
    """Return rows' losses and weights W, and d loss/dx, d loss/dt and d W/dt; float64."""
    row = o.keep[:, None]
    x, t, s = torch.where(row, x, 0.0), torch.where(row, t, 0.0), torch.where(o.keep, o.s, 0.0)
    z, slope = x, torch.ones_like(x)
    if o.softcap is not None:
        tail = torch.exp(-2 * (x / o.softcap).abs())
        slope = 4 * tail / (1 + tail) ** 2
        z = torch.where(x == -math.inf, x, o.softcap * torch.tanh(x / o.softcap))
    nan = o.bad | x.isnan().any(-1) | t.isnan().any(-1) | (z == -math.inf).all(-1)
    top = z.amax(-1, keepdim=True)
    limit = torch.where(z == math.inf, 0.0, -math.inf)  # +inf logits share the whole probability
    d = torch.where(top == math.inf, limit, z - torch.where(top == math.inf, 0.0, top))
    e = torch.exp(d)
    first = torch.zeros_like(e, dtype=torch.bool).scatter_(-1, z.argmax(-1, keepdim=True), True)
    others = summed(torch.where(first, 0.0, e))
    p = e / (1 + others)
    miss = torch.where(first, others / (1 + others), 1 - p)
    lse, nll = top + torch.log1p(others), torch.log1p(others) - d

    possible = (z > -math.inf).double()
    share = o.label_smoothing / possible.sum(-1, keepdim=True).clamp(min=1)
    q = (1 - o.label_smoothing) * t + share * t.sum(-1, keepdim=True) * possible
    a = times(q, o.w)
    mass = s * torch.where(o.bad, 1.0, summed(times(t, o.w))[:, 0])
    loss = s * summed(times(a, nll))[:, 0] + times(o.z_loss * mass, lse[:, 0] ** 2)
    grad = s[:, None] * (p * (summed(a) - a) - a * miss)
    grad = times(slope, grad + times(2 * o.z_loss * mass[:, None] * p, lse))
    own = torch.where((a == 0) & nll.isinf(), 0.0, nll)  # infinite only where the loss is
    mixed = times(share, summed(times(o.w * possible, own)))
    z_term = torch.where((o.z_loss * mass[:, None] == 0) & lse.isinf(), 0.0, o.z_loss * lse**2)
    to_t = s[:, None] * (times((1 - o.label_smoothing) * o.w, own) + mixed + times(o.w, z_term))
    loss = torch.where(nan, math.nan, loss)
    grad, to_t = (torch.where(nan[:, None], math.nan, g) for g in (grad, to_t))
    return loss, mass, grad, to_t, s[:, None] * o.w


class Rows(torch.autograd.Function):
    """Losses and weights of rows; backward multiplies what forward found."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, t: Tensor, o: Options) -> tuple[Tensor, Tensor]:
        loss, mass, *grads = row_terms(x, t, o)
        ctx.save_for_backward(*grads)
        return loss, mass

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        to_loss, to_mass = (u[:, None] for u in upstream)
        grad, to_t, mass_to_t = ctx.saved_tensors
        return times(grad, to_loss), times(to_t, to_loss) + times(mass_to_t, to_mass), None


class CrossEntropy:
    """CrossEntropy()(logits, targets, **options of xloss.cross_entropy)."""

    def __call__(
        self,
        logits: Tensor,
        targets: Tensor,
        /,
        *,
        axis: int = -1,
        weight: Tensor | None = None,
        sample_weight: Any = None,
        where: Any = None,
        ignore_index: int | None = -100,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
        softcap: float | None = None,
        reduction: str = "mean",
        normalizer: Any = None,
        validate: Any = "auto",
    ) -> Tensor:
        options = {k: v for k, v in locals().items() if k not in ("self", "logits", "targets")}
        check(logits, targets, **options)
        last = logits.movedim(axis, -1)
        *shape, classes = last.shape
        x = last.reshape(math.prod(shape), classes).double()
        s = torch.as_tensor(1.0 if sample_weight is None else sample_weight).double()
        s = s.broadcast_to(shape).reshape(-1)
        keep = torch.as_tensor(True if where is None else where).broadcast_to(shape).reshape(-1)
        keep = keep & (s != 0)
        w = x.new_ones(classes) if weight is None else weight.double()
        if reduction == "mean" and normalizer is None:
            s, w = near_one(s), near_one(w)
        bad = torch.zeros_like(keep)
        if targets.is_floating_point():
            t = targets.movedim(axis, -1).reshape(x.shape).double()
            if validate is True and bool(((t < 0) & keep[:, None]).any()):
                raise ValueError("targets: a probability is negative")
        else:
            labels = targets.reshape(-1).tolist()  # Python's integers, of any size and sign
            keep = keep & torch.tensor([v != ignore_index for v in labels], dtype=torch.bool)
            outside = torch.tensor([not 0 <= v < classes for v in labels], dtype=torch.bool)
            bad = keep & outside
            if bad.any() and validate is not False:
                raise IndexError(f"targets: a label is not in [0, {classes})")
            safe = [v if 0 <= v < classes else 0 for v in labels]
            t = torch.nn.functional.one_hot(torch.tensor(safe, dtype=torch.int64), classes).double()
        o = Options(s, keep, bad, w, label_smoothing, z_loss, softcap)
        losses, mass = self.rows(x, t, o)
        kind = torch.float64 if logits.dtype == torch.float64 else torch.float32
        if reduction == "none":
            return self.result(losses.reshape(shape).to(kind))
        total = losses.sum()
        if reduction == "mean":
            if not (keep & ~(mass <= 0)).any():
                total = self.rows(x, t, o._replace(keep=torch.zeros_like(keep)))[0].sum()
            else:
                given = None if normalizer is None else torch.as_tensor(normalizer).double()
                total = total / (self.divisor(mass) if given is None else given)
        return self.result(total.to(kind))

    def rows(self, x: Tensor, t: Tensor, o: Options) -> tuple[Tensor, Tensor]:
        losses, mass = Rows.apply(x, t, o)  # type: ignore[no-untyped-call]
        return losses, mass

    def divisor(self, mass: Tensor) -> Tensor:
        return mass.sum()

    def result(self, value: Tensor) -> Tensor:
        return value
