"""Mistakes that show at the ends of a dtype's range, and at targets that are all 0."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from . import numpy_right, others, torch_right
from .numpy_right import Array, times


class SumsInFloat32(numpy_right.CrossEntropy, family="range", rule="value"):
    """Losses and weights are summed in float32: inf/inf where all weights are 2^127."""

    def weights_of_a_mean(self, weights: Array) -> Array:
        return weights

    def total(self, losses: Array) -> Any:
        return losses.astype(np.float32).sum(dtype=np.float32).astype(np.float64)

    def divisor(self, mass: Array, s: Array, keep: Array, normalizer: Any) -> Any:
        right = super().divisor(mass, s, keep, normalizer)
        return np.float32(right).astype(np.float64)


class EpsilonInTheDivisor(numpy_right.CrossEntropy, family="range", rule="value"):
    """Σ s + 1e-8, which is to guard against 0: nothing is left of the mean under small weights."""

    def weights_of_a_mean(self, weights: Array) -> Array:
        return weights

    def divisor(self, mass: Array, s: Array, keep: Array, normalizer: Any) -> Any:
        return super().divisor(mass, s, keep, normalizer) + 1e-8


class CompensatedPastInfinity(numpy_right.CrossEntropy, family="range", rule="value"):
    """A compensated sum in float32 that adds what was lost though the sum is infinite."""

    def total(self, losses: Array) -> Any:
        total, lost = np.float32(0), np.float32(0)
        for loss in losses.astype(np.float32):
            both = total + loss
            part = both - total
            lost += (total - (both - part)) + (loss - part)
            total = both
        return np.float64(total + lost)


class RowsWithoutTargetsLeftOut(
    torch_right.CrossEntropy, family="soft gradient", rule="targets gradient"
):
    """A row whose targets are all 0 is taken for absent, its gradient to them too."""

    def rows(self, x: Tensor, t: Tensor, o: numpy_right.Given) -> tuple[Tensor, Tensor]:
        none = (t.detach() == 0).all(-1).numpy()
        return super().rows(x, t, o._replace(keep=o.keep & ~none))


def loss_times_gamma(x: Array, t: Array) -> others.Terms:
    """γ·ce in float32 before p (1-p), which is 0 where it is infinite."""
    losses, slope = others.from_logits(x, t)
    p, miss = others.from_logits(x, np.zeros(()))[1], -others.from_logits(x, np.ones(()))[1]
    m = p * (1 - t) + miss * t
    twice = (4 * losses).astype(np.float32).astype(np.float64) / 2
    grads = times(m, twice * (p * miss * (1 - 2 * t)) + m * slope)
    return others.sigmoid_focal(x, t)[0], grads


def reciprocal_first(p: Array, t: Array, gamma: float) -> others.Terms:
    """t·(1/p) in float32."""
    losses, grads = others.logarithm(p, t, gamma)
    slope = times(-t, (1 / p.astype(np.float32)).astype(np.float64))
    return losses, np.where(np.isnan(grads), grads, slope)


def slope_of_no_logarithm(p: Array, t: Array, gamma: float) -> others.Terms:
    """-t/p where p is negative and the loss NaN."""
    return others.logarithm(p, t, gamma)[0], np.where(t == 0, 0.0, -t / p)
