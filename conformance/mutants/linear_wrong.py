"""Linear cross-entropy on NumPy with one mistake each."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

import xloss

from . import Array, planted

mistake = partial(planted, "linear", loss="linear_cross_entropy")
right = xloss.value_and_grad(xloss.linear_cross_entropy, argnums=(0, 1, "bias"))


@mistake()
def bias_not_added(x: Array, w: Array, t: Array, /, *, bias: Array, **options: Any) -> Any:
    return right(x, w, t, bias=0 * bias, **options)


@mistake()
def products_in_bfloat16(x: Array, w: Array, t: Array, /, **options: Any) -> Any:
    """They are summed one after another."""
    import ml_dtypes

    z = np.zeros((len(x), len(w)), ml_dtypes.bfloat16)
    for k in range(x.shape[1]):
        z = z + np.multiply.outer(x[:, k], w[:, k]).astype(z.dtype)
    value, _ = right(z.astype(x.dtype), np.eye(len(w), dtype=x.dtype), t, **options)
    return value, right(x, w, t, **options)[1]


@mistake("gradient")
def nan_of_absent_rows(x: Array, w: Array, t: Array, /, **options: Any) -> Any:
    """The gradient of an absent row is 0, and 0·NaN enters the sum over rows."""
    value, (to_x, to_w, to_bias) = right(x, w, t, **options)
    return value, (to_x, to_w + (0 * x).sum(0), to_bias)


@mistake("gradient")
def last_block(x: Array, w: Array, t: Array, /, *, block_rows: Any = "auto", **options: Any) -> Any:
    """The weight's and the bias's gradient is that of the last block of rows, not their sum."""
    value, grads = right(x, w, t, block_rows=block_rows, **options)
    if block_rows == "auto" or not len(x) or options.get("reduction") != "sum":
        return value, grads
    start = (len(x) - 1) // block_rows * block_rows
    return value, (grads[0], *right(x[start:], w, t[start:], **options)[1][1:])


@mistake("gradient")
def denominator_not_in_the_gradient(x: Array, w: Array, t: Array, /, **options: Any) -> Any:
    """The gradient of the mean is that of the sum: its denominator was not known in time."""
    value, _ = right(x, w, t, **options)
    if options.get("reduction", "mean") == "mean":
        options["reduction"] = "sum"
    return value, right(x, w, t, **options)[1]


@mistake("gradient")
def upstream_to_the_features_alone(
    x: Array, w: Array, t: Array, /, *, bias: Array, cotangent: Any = None
) -> Any:
    value, (to_x, _, _) = right(x, w, t, bias=bias, cotangent=cotangent)
    return value, (to_x, *right(x, w, t, bias=bias)[1][1:])


@mistake("gradient", dtype="float16")
def summed_in_16_bits(x: Array, w: Array, t: Array, /, *, bias: Array) -> Any:
    """The weight's gradient is summed row by row in the features' dtype."""
    value, (to_x, to_w, to_bias) = right(x, w, t, bias=bias)
    if len(t) > 100:
        to_w = np.zeros_like(w)
        for i in range(len(t)):
            row = slice(i, i + 1)
            to_w += right(x[row], w, t[row], bias=bias, normalizer=float(len(t)))[1][1]
    return value, (to_x, to_w, to_bias)
