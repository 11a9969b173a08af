"""Cross-entropy on NumPy with one mistake each: the right one with one step changed."""

from __future__ import annotations

from typing import Any

import numpy as np

from .numpy_right import Array, CrossEntropy, Softmax


class NoShift(CrossEntropy, family="offsets"):
    """exp of the logits as they are, in float32."""

    def softmax(self, z: Array) -> Softmax:
        e = np.exp(z.astype(np.float32))
        total = e.sum(-1, keepdims=True)
        p = (e / total).astype(np.float64)
        lse = np.log(total).astype(np.float64)
        return Softmax(p, 1 - p, lse - z, lse)


class LogSoftmaxThenGather(CrossEntropy, family="tail"):
    """log_softmax in float32, and the label's entry of it; p - 1 from exp of it."""

    def softmax(self, z: Array) -> Softmax:
        z = z.astype(np.float32)
        top = z.max(-1, keepdims=True, initial=-np.inf)
        log_p = (z - top) - np.log(np.exp(z - top).sum(-1, keepdims=True))
        p = np.exp(log_p)
        right = super().softmax(z.astype(np.float64))
        miss, nll = (v.astype(np.float64) for v in (1 - p, -log_p))
        return Softmax(p.astype(np.float64), miss, nll, right.lse)


class OwnProbabilityMinus1(CrossEntropy, family="tail", rule="gradient"):
    """p - 1 in float32 for the true class."""

    def slopes(self, soft: Softmax, a: Array) -> Array:
        return super().slopes(soft._replace(miss=1 - soft.p.astype(np.float32)), a)


class InfinityMinusItself(CrossEntropy, family="infinities"):
    """No limit for +inf logits."""

    def found(self, right: Softmax, z: Array) -> Softmax:
        lost = (z == np.inf).any(-1, keepdims=True)
        return Softmax(*(np.where(lost, np.nan, v) for v in right))


class OnlineFromMinusInfinity(CrossEntropy, family="masks"):
    """Blocks of 256 classes merged from max = -inf: one of -inf alone gives inf - inf."""

    def found(self, right: Softmax, z: Array) -> Softmax:
        lost = (z[:, :256] == -np.inf).all(-1, keepdims=True)
        return Softmax(*(np.where(lost, np.nan, v) for v in right))


class OneClassIsBinary(CrossEntropy, family="one class"):
    """A single logit is taken for that of a binary loss."""

    def found(self, right: Softmax, z: Array) -> Softmax:
        return right if z.shape[-1] > 1 else right._replace(nll=np.logaddexp(0.0, -z))


class ZLossDropped(CrossEntropy, family="z-loss"):
    def z_terms(self, coefficient: Array, value: Array) -> Array:
        return np.zeros(())


class SoftcapDropped(CrossEntropy, family="softcap"):
    def capped(self, x: Array, c: float | None) -> tuple[Array, Array]:
        return super().capped(x, None)


class SoftcapUnmasks(CrossEntropy, family="softcap"):
    """tanh(-inf) is -1: a masked class comes back."""

    def capped(self, x: Array, c: float | None) -> tuple[Array, Array]:
        z, slope = super().capped(x, c)
        return (z if c is None else np.where(x == -np.inf, -c, z)), slope


class SoftcapSlopeCancels(CrossEntropy, family="softcap", rule="gradient"):
    """1 - tanh² in float32 for sech²."""

    def capped(self, x: Array, c: float | None) -> tuple[Array, Array]:
        z, slope = super().capped(x, c)
        if c is None:
            return z, slope
        return z, 1 - np.tanh((x / c).astype(np.float32)) ** 2


class UpstreamIgnored(CrossEntropy, family="upstream", rule="gradient"):
    def upstream(self, grads: Array, cotangent: Array, divisor: Any) -> Array:
        return super().upstream(grads, np.ones(cotangent.shape), divisor)


class UpstreamOfTheFirstRow(CrossEntropy, family="upstream", rule="gradient"):
    """Every row's gradient is scaled by the first upstream number."""

    def upstream(self, grads: Array, cotangent: Array, divisor: Any) -> Array:
        return super().upstream(grads, cotangent[:1], divisor)


class RunningSum(CrossEntropy, family="sixteen bits"):
    """Rows are added one by one in float32."""

    def total(self, losses: Array) -> Any:
        return np.add.accumulate(losses, dtype=np.float32)[-1] if losses.size else 0.0


class Noise(CrossEntropy, family="tail"):
    """A relative error of 2e-6."""

    def found(self, right: Softmax, z: Array) -> Softmax:
        return right._replace(nll=right.nll * (1 + 2e-6))


class Stateful(CrossEntropy, family="tail", rule="repeat"):
    """What one call leaves behind changes the next."""

    def __init__(self) -> None:
        self.calls = 0

    def softmax(self, z: Array) -> Softmax:
        self.calls += 1
        right = super().softmax(z)
        return right._replace(nll=right.nll * (1 + (self.calls % 2) * 1e-7))


class ProbabilityClipped(CrossEntropy, family="tail"):
    """-log of a probability that is clipped into [1e-7, 1 - 1e-7] first."""

    def found(self, right: Softmax, z: Array) -> Softmax:
        return right._replace(nll=-np.log(np.clip(right.p, 1e-7, 1 - 1e-7)))


class ZeroTimesInfinity(CrossEntropy, family="masks"):
    """Targets times the loss of every class: 0·inf of a masked class is NaN."""

    def row_losses(self, soft: Softmax, a: Array) -> Array:
        return np.asarray((a * soft.nll).sum(-1))


class MaskedByALargeNumber(CrossEntropy, family="masks"):
    """-1e9 stands for -inf: a masked label has a finite loss."""

    def capped(self, x: Array, c: float | None) -> tuple[Array, Array]:
        z, slope = super().capped(x, c)
        return np.maximum(z, -1e9), slope


class TiedCountedOnce(CrossEntropy, family="ties"):
    """All logits at the maximum are left out of the sum of the others: log1p counts one."""

    def found(self, right: Softmax, z: Array) -> Softmax:
        if not z.size:
            return right
        top = z.max(-1, keepdims=True)
        below = np.where(z == top, 0.0, np.exp(z - top)).sum(-1, keepdims=True)
        tied = ((z == top).sum(-1, keepdims=True) > 1) & np.isfinite(top)
        return right._replace(nll=np.where(tied, np.log1p(below) + (top - z), right.nll))


class SumInFloat16(CrossEntropy, family="sixteen bits", dtype="float16"):
    """exp and its sum in float16."""

    def found(self, right: Softmax, z: Array) -> Softmax:
        top = z.max(-1, keepdims=True, initial=-np.inf)
        total = np.exp((z - top).astype(np.float16)).sum(-1, keepdims=True)
        return right._replace(nll=np.log(total.astype(np.float64)) + (top - z))


class SumInTheOrderOfMemory(CrossEntropy, family="split", rule="split"):
    """Rows of a Fortran array are summed column by column, a single row pairwise."""

    def found(self, right: Softmax, z: Array) -> Softmax:
        top = z.max(-1, keepdims=True, initial=-np.inf)
        e = np.asfortranarray(np.exp((z - top).astype(np.float32)))
        log = np.log(e.sum(-1, keepdims=True)).astype(np.float64)
        return right._replace(nll=log + (top - z))


class SumsInFloat32(CrossEntropy, family="range"):
    """Losses and weights are summed in float32: inf/inf where all weights are 2^127."""

    def weights_of_a_mean(self, weights: Array) -> Array:
        return weights

    def total(self, losses: Array) -> Any:
        return losses.astype(np.float32).sum(dtype=np.float32).astype(np.float64)

    def divisor(self, mass: Array, s: Array, keep: Array, normalizer: Any) -> Any:
        right = super().divisor(mass, s, keep, normalizer)
        return np.float32(right).astype(np.float64)


class EpsilonInTheDivisor(CrossEntropy, family="range"):
    """Σ s + 1e-8, which is to guard against 0: nothing is left of the mean under small weights."""

    def weights_of_a_mean(self, weights: Array) -> Array:
        return weights

    def divisor(self, mass: Array, s: Array, keep: Array, normalizer: Any) -> Any:
        return super().divisor(mass, s, keep, normalizer) + 1e-8


class CompensatedPastInfinity(CrossEntropy, family="range"):
    """A compensated sum in float32 that adds what was lost though the sum is infinite."""

    def total(self, losses: Array) -> Any:
        total, lost = np.float32(0), np.float32(0)
        for loss in losses.astype(np.float32):
            both = total + loss
            part = both - total
            lost += (total - (both - part)) + (loss - part)
            total = both
        return np.float64(total + lost)


class ZLossWithoutGradient(CrossEntropy, family="z-loss", rule="gradient"):
    """The z-loss is in the value, and not in the gradient."""

    def z_terms(self, coefficient: Array, value: Array) -> Array:
        right = super().z_terms(coefficient, value)
        return right if coefficient.ndim == 1 else np.zeros(())
