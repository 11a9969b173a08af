"""Cross-entropy on NumPy with one mistake each, of weights, smoothing, means and absent rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from .checks import Options
from .numpy_right import Array, CrossEntropy, Softmax, summed, times


class MeanOverRows(CrossEntropy, family="options"):
    """The mean over the number of rows present, whatever their weights."""

    def divisor(self, mass: Array, s: Array, keep: Array, normalizer: Any) -> Any:
        return np.float64(keep.sum()) if normalizer is None else np.float64(normalizer)


class SampleWeightsNotInTheMean(CrossEntropy, family="options"):
    """Sample weights multiply the losses, but not the mean's denominator."""

    def divisor(self, mass: Array, s: Array, keep: Array, normalizer: Any) -> Any:
        ones = np.where(keep & (s != 0), s, 1.0)
        return super().divisor(mass / ones, s, keep, normalizer)


class NormalizerIgnored(CrossEntropy, family="options"):
    def divisor(self, mass: Array, s: Array, keep: Array, normalizer: Any) -> Any:
        return mass.sum()


class SmoothingOfMegatron(CrossEntropy, family="options"):
    """ε C/(C-1) in place of ε."""

    def smoothed(self, t: Array, epsilon: float, possible: Array) -> Array:
        classes = np.float64(t.shape[-1])
        return super().smoothed(t, float(epsilon * classes / (classes - 1)), possible)


class SmoothingOverMasked(CrossEntropy, family="masks"):
    """u is 1/C, over classes that cannot be too."""

    def smoothed(self, t: Array, epsilon: float, possible: Array) -> Array:
        return super().smoothed(t, epsilon, np.ones(possible.shape))


class SoftWeightsOff(CrossEntropy, family="options"):
    """Soft targets under class weights are off by 0.1%."""

    def weighted(self, q: Array, t: Array, w: Array, index: bool) -> Array:
        right = super().weighted(q, t, w, index)
        return right if index or (w == 1).all() else right * 1.001


class MaskByMultiplication(CrossEntropy, family="absent", rule="nothing"):
    """0 · NaN is NaN."""

    def absent(self, keep: Array, x: Array, s: Array, t: Array) -> tuple[Array, Array, Array]:
        return x, s * keep, t * keep[:, None]

    def kept(self, keep: Array, grads: Array) -> Array:
        return grads * keep[:, None]


class WhereIgnored(CrossEntropy, family="options"):
    def rows(self, sample_weight: Any, where: Any, shape: tuple[int, ...]) -> tuple[Array, Array]:
        return super().rows(sample_weight, None, shape)


class MeanOfNothing(CrossEntropy, family="all absent"):
    """0/0."""

    def mean(self, total: Any, divisor: Any, counted: bool) -> tuple[Array, Any]:
        return np.asarray(total / divisor), divisor if counted else np.inf


class MaximumOfLabels(CrossEntropy, family="empty", rule="runs"):
    """max(labels) of an empty batch raises."""

    def check(self, logits: Array, targets: Array, o: Options) -> None:
        super().check(logits, targets, o)
        targets.max()


class SoftTargetsNotSmoothed(CrossEntropy, family="options"):
    """Smoothing is for labels alone."""

    def smoothed(self, t: Array, epsilon: float, possible: Array) -> Array:
        one_hot = bool(((t == 0) | (t == 1)).all())
        return super().smoothed(t, epsilon if one_hot else 0.0, possible)


class GradientNotSmoothed(CrossEntropy, family="options", rule="gradient"):
    """The loss is smoothed; its gradient is that of the targets before smoothing."""

    def weighted(self, q: Array, t: Array, w: Array, index: bool) -> Array:
        self.plain = times(t, w)
        return super().weighted(q, t, w, index)

    def slopes(self, soft: Softmax, a: Array) -> Array:
        return super().slopes(soft, self.plain)


class AbsentRowsInTheMean(CrossEntropy, family="absent"):
    """The mean over all rows, those that are left out too."""

    def divisor(self, mass: Array, s: Array, keep: Array, normalizer: Any) -> Any:
        return super().divisor(np.where(keep, mass, 1.0), s, keep, normalizer)


class GradientWithoutNormalizer(CrossEntropy, family="options", rule="gradient"):
    """The value is divided by the normalizer, its gradient by the weight of the rows."""

    def divisor(self, mass: Array, s: Array, keep: Array, normalizer: Any) -> Any:
        self.own = summed(mass)[0]
        return super().divisor(mass, s, keep, normalizer)

    def mean(self, total: Any, divisor: Any, counted: bool) -> tuple[Array, Any]:
        value, divisor = super().mean(total, divisor, counted)
        return value, self.own if counted else divisor


class SampleWeight0Present(CrossEntropy, family="absent"):
    """Only `where` and ignore_index leave rows out: 0·NaN of a row of weight 0 is NaN."""

    def rows(self, sample_weight: Any, where: Any, shape: tuple[int, ...]) -> tuple[Array, Array]:
        s, _ = super().rows(sample_weight, where, shape)
        return s, super().rows(None, where, shape)[1]


class GradientOfNothing(CrossEntropy, family="all absent", rule="gradient"):
    """The mean over no row is 0, and its gradient 0/0."""

    def mean(self, total: Any, divisor: Any, counted: bool) -> tuple[Array, Any]:
        value, divisor = super().mean(total, divisor, counted)
        return value, divisor if counted else 0.0

    def kept(self, keep: Array, grads: Array) -> Array:
        return grads
