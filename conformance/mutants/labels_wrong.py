"""Cross-entropy on NumPy with one mistake each, of those about class indices."""

from __future__ import annotations

import numpy as np

from .checks import Options
from .numpy_right import Array, CrossEntropy


class MinusHundredWraps(CrossEntropy, family="labels", rule="value"):
    """-100 is a label as any other, counted from the end; so is every negative one."""

    def ignored(self, labels: Array, ignore_index: int | None) -> Array:
        return super().ignored(labels, None if ignore_index == -100 else ignore_index)

    def one_hot(self, labels: Array, classes: int) -> tuple[Array, Array]:
        wrapped = np.where(labels == -100, labels.astype(np.int64) % classes, labels)
        return super().one_hot(wrapped if labels.dtype.kind == "i" else labels, classes)


class NegativeWraps(CrossEntropy, family="labels", rule="value"):
    """-1 is the last class, as in NumPy's indexing."""

    def one_hot(self, labels: Array, classes: int) -> tuple[Array, Array]:
        inside = (labels < 0) & (labels.astype(np.int64) >= -classes)
        return super().one_hot(np.where(inside, labels + classes, labels), classes)


class LabelsClipped(CrossEntropy, family="labels", rule="value"):
    """JAX's gathers: a label that is no class is the nearest one."""

    def one_hot(self, labels: Array, classes: int) -> tuple[Array, Array]:
        return super().one_hot(np.clip(labels.astype(np.float64), 0, classes - 1), classes)


class LabelsTo16Bits(CrossEntropy, family="vocabulary", rule="value"):
    def one_hot(self, labels: Array, classes: int) -> tuple[Array, Array]:
        return super().one_hot(labels.astype(np.uint16) if classes > 2**16 else labels, classes)


class IgnoredAsInt8(CrossEntropy, family="labels", rule="value"):
    """Labels are compared with ignore_index as int8: 156 is -100, in any dtype."""

    def ignored(self, labels: Array, ignore_index: int | None) -> Array:
        if ignore_index is None or not -128 <= ignore_index < 128:
            return super().ignored(labels, ignore_index)
        return np.asarray(labels.astype(np.int8) == np.int8(ignore_index))


class IgnoredInTheirDtype(CrossEntropy, family="labels", rule="value"):
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


class UnsignedRefused(CrossEntropy, family="labels", rule="runs"):
    """Only signed integers are labels."""

    def check(self, logits: Array, targets: Array, o: Options) -> None:
        super().check(logits, targets, o)
        if targets.dtype.kind == "u":
            raise TypeError(f"targets: expected signed integers, got {targets.dtype}")


class BadLabelIgnored(CrossEntropy, family="labels", rule="value"):
    """A label that is no class leaves its row out, as an ignored one does."""

    def check(self, logits: Array, targets: Array, o: Options) -> None:
        super().check(logits, targets, o)
        self.classes = logits.shape[o.axis]

    def ignored(self, labels: Array, ignore_index: int | None) -> Array:
        return super().ignored(labels, ignore_index) | self.one_hot(labels, self.classes)[1]


class BadLabelWithoutGradient(CrossEntropy, family="labels", rule="gradient"):
    """The loss of a bad label is NaN, but its gradient is 0: training goes on."""

    def kept(self, keep: Array, grads: Array) -> Array:
        return super().kept(keep, np.nan_to_num(grads, nan=0.0))


class LabelsOfTheFirstBlock(CrossEntropy, family="sixteen bits", rule="value"):
    """Rows go in blocks of 1024, and every block reads the labels of the first."""

    def one_hot(self, labels: Array, classes: int) -> tuple[Array, Array]:
        return super().one_hot(np.resize(labels[:1024], labels.shape), classes)
