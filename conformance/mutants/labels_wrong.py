"""Cross-entropy on NumPy with one mistake each, of those about class indices."""

from __future__ import annotations

import numpy as np

from .numpy_right import Array, CrossEntropy


class MinusHundredWraps(CrossEntropy, family="labels"):
    """-100 is a label as any other, counted from the end; so is every negative one."""

    def ignored(self, labels: Array, ignore_index: int | None) -> Array:
        return super().ignored(labels, None if ignore_index == -100 else ignore_index)

    def one_hot(self, labels: Array, classes: int) -> tuple[Array, Array]:
        wrapped = np.where(labels == -100, labels.astype(np.int64) % classes, labels)
        return super().one_hot(wrapped if labels.dtype.kind == "i" else labels, classes)


class NegativeWraps(CrossEntropy, family="labels"):
    """-1 is the last class, as in NumPy's indexing."""

    def one_hot(self, labels: Array, classes: int) -> tuple[Array, Array]:
        inside = (labels < 0) & (labels.astype(np.int64) >= -classes)
        return super().one_hot(np.where(inside, labels + classes, labels), classes)


class LabelsClipped(CrossEntropy, family="labels"):
    """JAX's gathers: a label that is no class is the nearest one."""

    def one_hot(self, labels: Array, classes: int) -> tuple[Array, Array]:
        return super().one_hot(np.clip(labels.astype(np.float64), 0, classes - 1), classes)


class LabelsTo16Bits(CrossEntropy, family="vocabulary"):
    def one_hot(self, labels: Array, classes: int) -> tuple[Array, Array]:
        return super().one_hot(labels.astype(np.uint16) if classes > 2**16 else labels, classes)


class IgnoredInTheirDtype(CrossEntropy, family="labels"):
    """ignore_index is cast to the labels' dtype: in uint8, 156 is -100."""

    def ignored(self, labels: Array, ignore_index: int | None) -> Array:
        if ignore_index is None:
            return super().ignored(labels, None)
        return np.asarray(labels == np.asarray(ignore_index, np.int64).astype(labels.dtype))


class IgnoredOnlyIfNegative(CrossEntropy, family="labels", rule="runs"):
    """An ignore_index that could be a class ignores nothing."""

    def ignored(self, labels: Array, ignore_index: int | None) -> Array:
        negative = ignore_index is not None and ignore_index < 0
        return super().ignored(labels, ignore_index if negative else None)


class RangeInTheirDtype(CrossEntropy, family="labels", rule="runs"):
    """The number of classes is cast to the labels' dtype: 200 classes are -56 of int8."""

    def one_hot(self, labels: Array, classes: int) -> tuple[Array, Array]:
        t, outside = super().one_hot(labels, classes)
        return t, outside | (labels >= np.asarray(classes, np.int64).astype(labels.dtype))


class BadLabelWithoutGradient(CrossEntropy, family="labels", rule="gradient"):
    """The loss of a bad label is NaN, but its gradient is 0: training goes on."""

    def kept(self, keep: Array, grads: Array) -> Array:
        return super().kept(keep, np.nan_to_num(grads, nan=0.0))
