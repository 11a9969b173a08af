"""Cross-entropy on NumPy with one mistake each, of what is taken, refused and given back."""

from __future__ import annotations

from typing import Any

import numpy as np

from .checks import Options
from .numpy_right import Array, CrossEntropy, Softmax


class Changed(CrossEntropy):
    """The right loss of arguments that are made to fit instead of refused."""

    def __call__(self, logits: Array, targets: Array, /, **options: Any) -> tuple[Any, Array]:
        return super().__call__(*self.fitting(logits, targets, options), **options)

    def fitting(self, logits: Any, targets: Any, options: dict[str, Any]) -> tuple[Any, Any]:
        """Return logits and targets; options are changed in place."""
        raise NotImplementedError


class ColumnSqueezed(Changed, family="errors", rule="raises"):
    """A column of labels is taken for a row of them."""

    def fitting(self, logits: Any, targets: Any, options: dict[str, Any]) -> tuple[Any, Any]:
        column = np.ndim(targets) == 2 and targets.shape[1] == 1 and targets.dtype.kind in "iu"
        return logits, targets[:, 0] if column else targets


class BoolsAsNumbers(Changed, family="errors", rule="raises"):
    """True is 1: an inverted mask trains on without a word."""

    def fitting(self, logits: Any, targets: Any, options: dict[str, Any]) -> tuple[Any, Any]:
        bools = getattr(targets, "dtype", np.dtype(int)).kind == "b"
        return logits, targets.astype(logits.dtype) if bools else targets


class OneRowOfTargetsForAll(Changed, family="errors", rule="raises"):
    """A single row of probabilities is broadcast to every row."""

    def fitting(self, logits: Any, targets: Any, options: dict[str, Any]) -> tuple[Any, Any]:
        one = np.ndim(targets) == 2 and len(targets) == 1 and targets.dtype.kind == "f"
        return logits, np.broadcast_to(targets, logits.shape) if one else targets


class RowsWithoutLabelDropped(Changed, family="errors", rule="raises"):
    """zip ends with the shorter one."""

    def fitting(self, logits: Any, targets: Any, options: dict[str, Any]) -> tuple[Any, Any]:
        few = np.ndim(logits) == 2 and np.ndim(targets) == 1 and len(targets) < len(logits)
        return logits[: len(targets)] if few else logits, targets


class SmoothingClipped(Changed, family="errors", rule="raises"):
    """label_smoothing is clipped into [0, 1]."""

    def fitting(self, logits: Any, targets: Any, options: dict[str, Any]) -> tuple[Any, Any]:
        if "label_smoothing" in options:
            options["label_smoothing"] = float(np.clip(options["label_smoothing"], 0, 1))
        return logits, targets


class NormalizerDroppedOfASum(Changed, family="errors", rule="raises"):
    """A normalizer that cannot be used is left out."""

    def fitting(self, logits: Any, targets: Any, options: dict[str, Any]) -> tuple[Any, Any]:
        if options.get("reduction", "mean") != "mean":
            options.pop("normalizer", None)
        return logits, targets


class WeightFilledUp(Changed, family="errors", rule="raises"):
    """Classes that `weight` does not reach weigh 1."""

    def fitting(self, logits: Any, targets: Any, options: dict[str, Any]) -> tuple[Any, Any]:
        given: Any = options.get("weight")
        missing = np.shape(logits)[-1] - np.size(given)
        if np.ndim(given) == 1 and missing > 0:
            options["weight"] = np.concatenate([given, np.ones(missing)])
        return logits, targets


class NaNTakenFor0(Changed, family="infinities", rule="value"):
    """nan_to_num on the logits: a network that has diverged looks sound."""

    def fitting(self, logits: Any, targets: Any, options: dict[str, Any]) -> tuple[Any, Any]:
        if getattr(logits, "dtype", np.dtype(int)).kind == "f":
            logits = np.where(np.isnan(logits), logits.dtype.type(0), logits)
        return logits, targets


class ReadOnlyRefused(CrossEntropy, family="layouts", rule="runs"):
    """A buffer is asked for that can be written to, though nothing is written."""

    def check(self, logits: Array, targets: Array, o: Options) -> None:
        super().check(logits, targets, o)
        if not logits.flags.writeable:
            raise ValueError("buffer source array is read-only")


class Float64InFloat32(CrossEntropy, family="tail", rule="value", dtype="float64"):
    """float64 logits are computed with in float32, and the results called float64."""

    def __call__(self, logits: Array, targets: Array, /, **options: Any) -> tuple[Any, Array]:
        value, grad = super().__call__(logits.astype(np.float32), targets, **options)
        return value.astype(logits.dtype), grad.astype(logits.dtype)


class GradientInFloat32(CrossEntropy, family="sixteen bits", rule="dtype", dtype="float16"):
    """The gradient of 16-bit logits is float32."""

    def __call__(self, logits: Array, targets: Array, /, **options: Any) -> tuple[Any, Array]:
        value, grad = super().__call__(logits, targets, **options)
        return value, grad.astype(np.float64 if grad.dtype == np.float64 else np.float32)


class ValueTimesUpstream(CrossEntropy, family="upstream", rule="value"):
    """The upstream gradient multiplies the value too."""

    def __call__(self, logits: Array, targets: Array, /, **options: Any) -> tuple[Any, Array]:
        self.up = np.ravel(options.get("cotangent", 1.0))
        return super().__call__(logits, targets, **options)

    def row_losses(self, soft: Softmax, a: Array) -> Array:
        return super().row_losses(soft, a) * self.up


class GradientNotMovedBack(CrossEntropy, family="axis", rule="gradient"):
    """Rows of gradients are reshaped to the logits' shape without moving the class axis back."""

    def __call__(self, logits: Array, targets: Array, /, **options: Any) -> tuple[Any, Array]:
        value, grad = super().__call__(logits, targets, **options)
        return value, np.moveaxis(grad, options.get("axis", -1), -1).reshape(grad.shape)
