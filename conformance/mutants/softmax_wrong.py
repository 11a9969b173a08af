"""Cross-entropy on NumPy with one mistake each, of the softmax: masks, infinities, ties, digits."""

from __future__ import annotations

import numpy as np

from .numpy_right import Array, CrossEntropy, Softmax


class ProbabilityClipped(CrossEntropy, family="tail", rule="value"):
    """-log of a probability that is clipped into [1e-7, 1 - 1e-7] first."""

    def found(self, right: Softmax, z: Array) -> Softmax:
        return right._replace(nll=-np.log(np.clip(right.p, 1e-7, 1 - 1e-7)))


class ZeroTimesInfinity(CrossEntropy, family="masks", rule="value"):
    """Targets times the loss of every class: 0·inf of a masked class is NaN."""

    def row_losses(self, soft: Softmax, a: Array) -> Array:
        return np.asarray((a * soft.nll).sum(-1))


class MaskedByALargeNumber(CrossEntropy, family="masks", rule="value"):
    """-1e9 stands for -inf: a masked label has a finite loss."""

    def capped(self, x: Array, c: float | None) -> tuple[Array, Array]:
        z, slope = super().capped(x, c)
        return np.maximum(z, -1e9), slope


class NothingPossibleIsNothing(CrossEntropy, family="masks", rule="value"):
    """A row whose classes are all masked has loss 0."""

    def impossible(self, possible: Array) -> Array:
        return np.zeros(len(possible), bool)

    def row_losses(self, soft: Softmax, a: Array) -> Array:
        undefined = np.isnan(soft.nll).all(-1)
        return np.where(undefined, 0.0, super().row_losses(soft, a))


class FirstInfinityTakesAll(CrossEntropy, family="infinities", rule="value"):
    """Of several +inf logits the first has the whole probability."""

    def softmax(self, z: Array) -> Softmax:
        later = (z == np.inf) & (np.cumsum(z == np.inf, axis=-1) > 1)
        return super().softmax(np.where(later, -np.inf, z))


class TiedCountedOnce(CrossEntropy, family="ties", rule="value"):
    """All logits at the maximum are left out of the sum of the others: log1p counts one."""

    def found(self, right: Softmax, z: Array) -> Softmax:
        if not z.size:
            return right
        top = z.max(-1, keepdims=True)
        below = np.where(z == top, 0.0, np.exp(z - top)).sum(-1, keepdims=True)
        tied = ((z == top).sum(-1, keepdims=True) > 1) & np.isfinite(top)
        return right._replace(nll=np.where(tied, np.log1p(below) + (top - z), right.nll))


class SumInFloat16(CrossEntropy, family="sixteen bits", rule="value", dtype="float16"):
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


class ClassesBeyond65536(CrossEntropy, family="vocabulary", rule="value"):
    """One block of at most 65536 classes is read."""

    def softmax(self, z: Array) -> Softmax:
        read = np.arange(z.shape[-1]) < 2**16
        return super().softmax(np.where(read, z, -np.inf))


class SoftcapClips(CrossEntropy, family="softcap", rule="value"):
    """Logits are clipped into [-c, c], in place of c·tanh(x/c)."""

    def capped(self, x: Array, c: float | None) -> tuple[Array, Array]:
        if c is None:
            return super().capped(x, None)
        return np.where(x == -np.inf, x, np.clip(x, -c, c)), (np.abs(x) < c).astype(np.float64)
