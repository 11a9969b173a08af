"""Cross-entropy on NumPy with one mistake each, of weights, smoothing, means and absent rows."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

import xloss

from . import Array, Asked, Options, Terms, asked, count_of, plain, planted
from . import right as answer

PRESENT = ("where", "ignore_index")
COUNTED = ("weight", "sample_weight", *PRESENT)
options_of = partial(asked, "options")
right = partial(answer, "cross_entropy")


def over(x: Array, t: Array, options: Options, count: Any) -> Asked:
    """Return the same, whose mean divides by a count of its own."""
    if options.get("reduction", "mean") == "mean":
        options.setdefault("normalizer", float(count))
    return x, t, options


def without(options: Options, name: str) -> Options:
    return {k: v for k, v in options.items() if k != name}


@options_of()
@asked("nll", loss="nll_loss")
def mean_over_rows(x: Array, t: Array, options: Options) -> Asked:
    """The mean over the number of rows present, whatever their weights."""
    return over(x, t, options, count_of(t, options, *PRESENT))


@options_of()
def normalizer_ignored(x: Array, t: Array, options: Options) -> Asked:
    return x, t, without(options, "normalizer")


@options_of()
def smoothing_of_megatron(x: Array, t: Array, options: Options) -> Asked:
    """ε C/(C-1) in place of ε."""
    classes = x.shape[options.get("axis", -1)]
    epsilon = options.get("label_smoothing", 0.0) * classes / (classes - 1)
    return x, t, {**options, "label_smoothing": epsilon}


@asked("masks")
def smoothing_over_masked(x: Array, t: Array, options: Options) -> Asked:
    """u is 1/C, over classes that cannot be too."""
    if (x == -np.inf).any():
        whole = xloss.one_hot(t, x.shape[-1], dtype=x.dtype) if t.dtype.kind == "i" else t
        return x, xloss.smooth_labels(whole, options.pop("label_smoothing", 0.0)), options
    return x, t, options


@planted("absent", "nothing")
def mask_by_multiplication(x: Array, t: Array, /, **options: Any) -> Terms:
    """0 · NaN is NaN."""
    value, grad = right(x, t, options)
    return value, grad + np.where(np.isnan(x), x, 0)


@options_of()
def where_ignored(x: Array, t: Array, options: Options) -> Asked:
    return x, t, without(options, "where")


@planted("all absent")
def mean_of_nothing(x: Array, t: Array, /, **options: Any) -> Terms:
    """0/0."""
    value, grad = right(x, t, options)
    count = count_of(t, options, *COUNTED)
    return value * (count / count), grad


@planted("empty", "runs")
def maximum_of_labels(x: Array, t: Array, /, **options: Any) -> Terms:
    """max(labels) of an empty batch raises."""
    t.max()
    return right(x, t, options)


@options_of()
def soft_targets_not_smoothed(x: Array, t: Array, options: Options) -> Asked:
    """Smoothing is for labels alone."""
    return x, t, without(options, "label_smoothing") if t.dtype.kind == "f" else options


@options_of("gradient")
def gradient_not_smoothed(x: Array, t: Array, options: Options) -> Asked:
    """The loss is smoothed; its gradient is that of the targets before smoothing."""
    return x, t, without(options, "label_smoothing")


@asked("absent")
def absent_rows_in_the_mean(x: Array, t: Array, options: Options) -> Asked:
    """The mean over all rows, those that are left out too."""
    rows = x.size // x.shape[options.get("axis", -1)]
    left_out = rows - count_of(t, options, *PRESENT)
    return over(x, t, options, count_of(t, options, *COUNTED) + left_out)


@options_of("gradient")
def gradient_without_normalizer(x: Array, t: Array, options: Options) -> Asked:
    """The value is divided by the normalizer, its gradient by the weight of the rows."""
    return x, t, without(options, "normalizer")


@asked("absent")
def sample_weight_0_present(x: Array, t: Array, options: Options) -> Asked:
    """Only `where` and ignore_index leave rows out: 0·NaN of a row of weight 0 is NaN."""
    if "sample_weight" in options:
        s = options["sample_weight"]
        options["sample_weight"] = np.where(s == 0, np.finfo(np.float32).tiny, s)
    return x, t, options


@planted("all absent", "gradient")
def gradient_of_nothing(x: Array, t: Array, /, **options: Any) -> Terms:
    """The mean over no row is 0, and its gradient 0/0."""
    value, grad = right(x, t, options)
    count = count_of(t, options, *COUNTED)
    return value, grad * plain(count / count, grad)
