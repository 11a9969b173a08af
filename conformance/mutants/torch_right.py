"""Cross-entropy on PyTorch: the rows are those of the NumPy one, then autograd."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import Planted, numpy_right
from .checks import check
from .numpy_right import Array, Given, summed, times

STEPS = numpy_right.CrossEntropy()


def row_terms(x: Array, t: Array, o: Given) -> tuple[Array, ...]:
    """Return rows' losses and weights W, and d loss/dx, d loss/dt and d W/dt; float64."""
    loss, grad, mass, soft, possible, a = STEPS.row_terms(x, t, o)
    s = np.where(o.keep, o.s, 0.0)[:, None]
    share = o.label_smoothing / np.maximum(possible.sum(-1, keepdims=True), 1)
    own = np.where((a == 0) & np.isinf(soft.nll), 0.0, soft.nll)  # infinite where the loss is
    mixed = times(share, summed(times(o.w * possible, own)))
    lost = (o.z_loss * mass[:, None] == 0) & np.isinf(soft.lse)
    z_term = np.where(lost, 0.0, o.z_loss * soft.lse**2)
    to_t = s * (times((1 - o.label_smoothing) * o.w, own) + mixed + times(o.w, z_term))
    return loss, mass, grad, np.where(np.isnan(loss)[:, None], np.nan, to_t), s * o.w


class Rows(torch.autograd.Function):
    """Losses and weights of rows; backward multiplies what forward found."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, t: Tensor, o: Given) -> tuple[Tensor, Tensor]:
        tensors: dict[str, Any] = {
            k: v.numpy() for k, v in o._asdict().items() if isinstance(v, Tensor)
        }
        given = o._replace(**tensors)
        found = row_terms(x.detach().numpy(), t.detach().numpy(), given)
        loss, mass, *grads = (torch.from_numpy(np.asarray(v)) for v in found)
        ctx.save_for_backward(*grads)
        return loss, mass

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        to_loss, to_mass = (u[:, None] for u in upstream)
        grad, to_t, mass_to_t = ctx.saved_tensors
        by_t = product(to_t, to_loss) + product(mass_to_t, to_mass)
        return product(grad, to_loss), by_t, None


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return a · b, 0 where a is 0 whatever b is."""
    return torch.where(a == 0, 0.0, a * b)


class CrossEntropy(Planted):
    """CrossEntropy()(logits, targets, **options of xloss.cross_entropy)."""

    arrays = "torch"
    prefix = "autograd: "

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
            s, w = (torch.from_numpy(STEPS.weights_of_a_mean(v.numpy())) for v in (s, w))
        bad = torch.zeros_like(keep)
        if targets.is_floating_point():
            t = targets.movedim(axis, -1).reshape(x.shape).double()
            if validate is True and bool(((t < 0) & keep[:, None]).any()):
                raise ValueError("targets: a probability is negative")
        else:
            labels = targets.numpy().ravel()
            keep = keep & ~torch.from_numpy(STEPS.ignored(labels, ignore_index))
            t, outside = map(torch.from_numpy, STEPS.one_hot(labels, classes))
            bad = keep & outside
            if bad.any() and validate is not False:
                raise IndexError(f"targets: a label is not in [0, {classes})")
        o = Given(s, keep, bad, w, label_smoothing, z_loss, softcap)
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

    def rows(self, x: Tensor, t: Tensor, o: Given) -> tuple[Tensor, Tensor]:
        losses, mass = Rows.apply(x, t, o)  # type: ignore[no-untyped-call]
        return losses, mass

    def divisor(self, mass: Tensor) -> Tensor:
        return mass.sum()

    def result(self, value: Tensor) -> Tensor:
        return value
