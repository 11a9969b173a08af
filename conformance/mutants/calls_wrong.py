"""Cross-entropy on NumPy with one mistake each, of what is taken, refused and given back."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from .checks import Options
from .numpy_right import Array, CrossEntropy, Given


class BoolsAsNumbers(CrossEntropy, family="errors", rule="raises"):
    """True is 1: an inverted mask trains on without a word."""

    def __call__(self, logits: Array, targets: Any, /, **options: Any) -> tuple[Any, Array]:
        bools = getattr(targets, "dtype", np.dtype(int)).kind == "b"
        return super().__call__(logits, targets * 1.0 if bools else targets, **options)


class BadOptionAccepted(CrossEntropy, family="errors", rule="raises"):
    """A call that cannot be right is answered."""

    def check(self, logits: Array, targets: Array, o: Options) -> None:
        with suppress(ValueError):
            super().check(logits, targets, o)


class ReadOnlyRefused(CrossEntropy, family="layouts", rule="runs"):
    """A buffer is asked for that can be written to, though nothing is written."""

    def check(self, logits: Array, targets: Array, o: Options) -> None:
        super().check(logits, targets, o)
        if not logits.flags.writeable:
            raise ValueError("buffer source array is read-only")


class NaNTakenFor0(CrossEntropy, family="infinities"):
    """nan_to_num on the logits: a network that has diverged looks sound."""

    def prepared(self, logits: Array, targets: Array, o: Options) -> tuple[Array, Array, Given]:
        x, t, given = super().prepared(logits, targets, o)
        return np.where(np.isnan(x), 0.0, x), t, given


class InputOverwritten(CrossEntropy, family="layouts", rule="input"):
    """The maximum is taken off in place, where the memory lets it."""

    def __call__(self, logits: Array, targets: Array, /, **options: Any) -> tuple[Any, Array]:
        result = super().__call__(logits, targets, **options)
        if logits.flags.writeable:
            logits -= logits.max(initial=0)
        return result


class FlatRows(CrossEntropy, family="layouts"):
    """Memory is read in the order in which it lies, whatever the strides say."""

    def __call__(self, logits: Array, targets: Array, /, **options: Any) -> tuple[Any, Array]:
        if logits.ndim == 2 and logits.flags.f_contiguous and not logits.flags.c_contiguous:
            logits = logits.ravel(order="K").reshape(logits.shape)
        return super().__call__(logits, targets, **options)


class OtherByteOrder(CrossEntropy, family="layouts"):
    """Bytes are taken for numbers of this machine's order."""

    def __call__(self, logits: Array, targets: Array, /, **options: Any) -> tuple[Any, Array]:
        logits = logits.view(logits.dtype.newbyteorder("="))
        return super().__call__(logits, targets, **options)


class ReturnsFloat16(CrossEntropy, family="sixteen bits", rule="dtype", dtype="float16"):
    def __call__(self, logits: Array, targets: Array, /, **options: Any) -> tuple[Any, Array]:
        value, grad = super().__call__(logits, targets, **options)
        return value.astype(np.float16), grad


class Float64InFloat32(CrossEntropy, family="tail", dtype="float64"):
    """float64 logits are computed with in float32, and the results called float64."""

    def __call__(self, logits: Array, targets: Array, /, **options: Any) -> tuple[Any, Array]:
        value, grad = super().__call__(logits.astype(np.float32), targets, **options)
        return value.astype(logits.dtype), grad.astype(logits.dtype)


class ClassesNotMoved(CrossEntropy, family="axis"):
    """(N, C, d) is reshaped to rows of C without moving the class axis."""

    def classes_last(self, array: Array, axis: int) -> Array:
        return array.reshape(super().classes_last(array, axis).shape)


class GradientNotMovedBack(CrossEntropy, family="axis", rule="gradient"):
    """Rows of gradients are reshaped to the logits' shape without moving the class axis back."""

    def __call__(self, logits: Array, targets: Array, /, **options: Any) -> tuple[Any, Array]:
        value, grad = super().__call__(logits, targets, **options)
        return value, np.moveaxis(grad, options.get("axis", -1), -1).reshape(grad.shape)
