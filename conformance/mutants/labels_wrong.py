"""Cross-entropy on NumPy with one mistake each, of those about class indices."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from . import Array, Asked, Options, Terms, asked, planted, right

labels = partial(asked, "labels")


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
def negative_wraps(x: Array, t: Array, options: Options) -> Asked:
    """-1 is the last class, as in NumPy's indexing."""
    inside = (t < 0) & (t >= -classes(x, options)) & present(t, options)
    return x, np.where(inside, t + classes(x, options), t), options


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
    value, grad = right("cross_entropy", x, t, options)
    return value, np.nan_to_num(grad)
