"""Cross-entropy on NumPy with one mistake each, of what is taken, refused and given back."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from . import Array, Asked, Options, Terms, asked, planted
from . import right as answer

right = partial(answer, "cross_entropy")
labels = partial(asked, "labels")


@asked("errors", "raises")
def bools_as_numbers(x: Array, t: Any, options: Options) -> Asked:
    """True is 1: an inverted mask trains on without a word."""
    bools = getattr(t, "dtype", np.dtype(int)).kind == "b"
    return x, t * 1.0 if bools else t, options


@planted("errors", "raises")
def bad_option_accepted(x: Array, t: Array, /, **options: Any) -> Terms:
    """A call that cannot be right is answered."""
    try:
        return right(x, t, options)
    except ValueError:
        return right(x, t, {})


@planted("layouts", "runs")
def read_only_refused(x: Array, t: Array, /, **options: Any) -> Terms:
    """A buffer is asked for that can be written to, though nothing is written."""
    if not x.flags.writeable:
        raise ValueError("buffer source array is read-only")
    return right(x, t, options)


@asked("infinities")
def nan_taken_for_0(x: Array, t: Array, options: Options) -> Asked:
    """nan_to_num on the logits: a network that has diverged looks sound."""
    return np.where(np.isnan(x), np.zeros_like(x), x), t, options


@planted("layouts", "input")
def input_overwritten(x: Array, t: Array, /, **options: Any) -> Terms:
    """The maximum is taken off in place, where the memory lets it."""
    result = right(x, t, options)
    if x.flags.writeable:
        x -= x.max(initial=0)
    return result


@asked("layouts")
def flat_rows(x: Array, t: Array, options: Options) -> Asked:
    """Memory is read in the order in which it lies, whatever the strides say."""
    flat = x.ndim == 2 and x.flags.f_contiguous and not x.flags.c_contiguous
    return x.ravel(order="K").reshape(x.shape) if flat else x, t, options


@asked("layouts")
def other_byte_order(x: Array, t: Array, options: Options) -> Asked:
    """Bytes are taken for numbers of this machine's order."""
    return x.view(x.dtype.newbyteorder("=")), t, options


@planted("sixteen bits", "dtype", dtype="float16")
def returns_float16(x: Array, t: Array, /, **options: Any) -> Terms:
    value, grad = right(x, t, options)
    return value.astype(np.float16), grad


@planted("tail", dtype="float64")
def float64_in_float32(x: Array, t: Array, /, **options: Any) -> Terms:
    """float64 logits are computed with in float32, and the results called float64."""
    value, grad = right(x.astype(np.float32), t, options)
    return value.astype(x.dtype), grad.astype(x.dtype)


@planted("axis")
def classes_not_moved(x: Array, t: Array, /, *, axis: int = -1, **options: Any) -> Terms:
    """(N, C, d) is reshaped to rows of C without moving the class axis."""
    rows = x.reshape(np.moveaxis(x, axis, -1).shape)
    value, grad = right(rows, t.reshape(rows.shape) if t.ndim == x.ndim else t, options)
    return value, grad.reshape(x.shape)


@planted("axis", "gradient")
def gradient_not_moved_back(x: Array, t: Array, /, *, axis: int = -1, **options: Any) -> Terms:
    """Rows of gradients are reshaped to the logits' shape without moving the class axis back."""
    value, grad = right(x, t, {**options, "axis": axis})
    return value, np.moveaxis(grad, axis, -1).reshape(grad.shape)


# ---- Class indices -------------------------------------------------------------------------------


def classes(x: Array, options: Options) -> int:
    return int(x.shape[options.get("axis", -1)])


def present(t: Array, options: Options) -> Array:
    """Return which labels are not ignored."""
    return np.asarray(t != np.asarray(options.get("ignore_index", -100)))


@labels()
def minus_hundred_wraps(x: Array, t: Array, options: Options) -> Asked:
    """-100 is a label as any other, counted from the end."""
    if options.get("ignore_index", -100) == -100:
        options["ignore_index"] = None
        t = np.where(t == -100, t % classes(x, options), t)
    return x, t, options


@labels()
def labels_clipped(x: Array, t: Array, options: Options) -> Asked:
    """JAX's gathers: a label that is no class is the nearest one."""
    nearest = np.clip(t.astype(np.float64), 0, classes(x, options) - 1).astype(t.dtype)
    return x, np.where(present(t, options), nearest, t), options


@asked("vocabulary")
def labels_to_16_bits(x: Array, t: Array, options: Options) -> Asked:
    return x, t.astype(np.uint16) if classes(x, options) > 2**16 else t, options


@labels()
def ignored_in_their_dtype(x: Array, t: Array, options: Options) -> Asked:
    """ignore_index is cast to the labels' dtype: in uint8, 156 is -100."""
    ignored = np.asarray(options.get("ignore_index", -100), np.int64)
    return x, t, {**options, "ignore_index": int(ignored.astype(t.dtype))}


@labels("runs")
def ignored_only_if_negative(x: Array, t: Array, options: Options) -> Asked:
    """An ignore_index that could be a class ignores nothing."""
    if options.get("ignore_index", -100) >= 0:
        options["ignore_index"] = None
    return x, t, options


@labels("runs")
def range_in_their_dtype(x: Array, t: Array, options: Options) -> Asked:
    """The number of classes is cast to the labels' dtype: 200 classes are -56 of int8."""
    most, outside = np.asarray([classes(x, options), -1]).astype(t.dtype)
    return x, np.where(present(t, options) & (t >= most), outside, t), options


@planted("labels", "gradient")
def bad_label_without_gradient(x: Array, t: Array, /, **options: Any) -> Terms:
    """The loss of a bad label is NaN, but its gradient is 0: training goes on."""
    value, grad = right(x, t, options)
    return value, np.nan_to_num(grad)
