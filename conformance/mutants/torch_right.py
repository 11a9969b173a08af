"""Cross-entropy on PyTorch: the rows are those of the NumPy one, then autograd."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import Planted, numpy_right
from .checks import Options, check
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
        found = row_terms(x.detach().numpy(), t.detach().numpy(), o)
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


def array(given: Any) -> Any:
    """Return a tensor's numbers, floats as float64, for NumPy has no bfloat16."""
    if not isinstance(given, Tensor):
        return given
    return (given.detach().double() if given.is_floating_point() else given).numpy()


class CrossEntropy(Planted):
    """CrossEntropy()(logits, targets, **options of xloss.cross_entropy)."""

    arrays = "torch"
    prefix = "autograd: "

    def __call__(self, logits: Tensor, targets: Tensor, /, **options: Any) -> Tensor:
        asked = Options(**options)
        check(logits, targets, asked)
        options = {name: array(given) for name, given in options.items()}
        found, one_hot, o = STEPS.prepared(array(logits), array(targets), Options(**options))
        x = logits.movedim(asked.axis, -1).reshape(found.shape).double()
        t = torch.from_numpy(one_hot)
        if targets.is_floating_point():
            t = targets.movedim(asked.axis, -1).reshape(found.shape).double()
        losses, mass = self.rows(x, t, o)
        kind = torch.float64 if logits.dtype == torch.float64 else torch.float32
        if asked.reduction == "none":
            shape = logits.movedim(asked.axis, -1).shape[:-1]
            return self.result(losses.reshape(shape).to(kind))
        total = losses.sum()
        if asked.reduction == "mean":
            if not (o.keep & ~(array(mass) <= 0)).any():
                total = self.rows(x, t, o._replace(keep=np.zeros_like(o.keep)))[0].sum()
            else:
                given = None if asked.normalizer is None else torch.as_tensor(asked.normalizer)
                total = total / (self.divisor(mass) if given is None else given.double())
        return self.result(total.to(kind))

    def rows(self, x: Tensor, t: Tensor, o: Given) -> tuple[Tensor, Tensor]:
        losses, mass = Rows.apply(x, t, o)  # type: ignore[no-untyped-call]
        return losses, mass

    def divisor(self, mass: Tensor) -> Tensor:
        return mass.sum()

    def result(self, value: Tensor) -> Tensor:
        return value
