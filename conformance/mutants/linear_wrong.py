"""Linear cross-entropy on NumPy with one mistake each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import others as o
from .numpy_right import Array

Right = Callable[..., Any]  # the right loss of features, weight, targets and options
Options = dict[str, Any]  # bias, block_rows, reduction, cotangent


def changed(change: Callable[[Right, Array, Array, Array, Options], Any]) -> Right:
    """Return a loss that `change` makes of the right one and of its arguments."""
    right = o.linear()

    def loss(
        features: Array,
        weight: Array,
        targets: Array,
        /,
        *,
        bias: Array,
        block_rows: Any = "auto",
        reduction: str = "mean",
        cotangent: Any = 1.0,
    ) -> Any:
        options = {"block_rows": block_rows, "reduction": reduction, "cotangent": cotangent}
        return change(right, features, weight, targets, {"bias": bias, **options})

    return loss


def without_bias(right: Right, x: Array, w: Array, t: Array, options: Options) -> Any:
    """The bias is not added to the logits."""
    return right(x, w, t, **{**options, "bias": np.zeros_like(options["bias"])})


def last_block(right: Right, x: Array, w: Array, t: Array, options: Options) -> Any:
    """The weight's and the bias's gradient is that of the last block of rows, not their sum."""
    value, (to_x, to_w, to_bias) = right(x, w, t, **options)
    step = options["block_rows"]
    if step == "auto" or not len(x) or options["reduction"] != "sum":
        return value, (to_x, to_w, to_bias)
    start = (len(x) - 1) // step * step
    _, (_, to_w, to_bias) = right(x[start:], w, t[start:], **options)
    return value, (to_x, to_w, to_bias)


def without_denominator(right: Right, x: Array, w: Array, t: Array, options: Options) -> Any:
    """The gradient of the mean is that of the sum: its denominator was not known in time."""
    value, _ = right(x, w, t, **options)
    if options["reduction"] == "mean":
        options = {**options, "reduction": "sum"}
    return value, right(x, w, t, **options)[1]


def upstream_of_features_alone(right: Right, x: Array, w: Array, t: Array, options: Options) -> Any:
    """The upstream gradient reaches the features, but neither weight nor bias."""
    value, (to_x, _, _) = right(x, w, t, **options)
    _, (_, to_w, to_bias) = right(x, w, t, **{**options, "cotangent": 1.0})
    return value, (to_x, to_w, to_bias)


def sixteen_bit_sum(right: Right, x: Array, w: Array, t: Array, options: Options) -> Any:
    """The weight's gradient is summed block by block in the features' dtype."""
    value, (to_x, to_w, to_bias) = right(x, w, t, **options)
    if options["reduction"] == "mean" and x.dtype.itemsize == 2 and len(t) > 100:
        one = {**options, "cotangent": np.float64(options["cotangent"]) / len(t)}
        one["reduction"] = "sum"
        to_w = np.zeros_like(to_w)
        for i in range(len(t)):
            to_w = to_w + right(x[i : i + 1], w, t[i : i + 1], **one)[1][1]
    return value, (to_x, to_w, to_bias)


def sixteen_bits(features: Array, weight: Array) -> Array:
    """Products summed one after another in bfloat16."""
    import ml_dtypes

    total = np.zeros((len(features), len(weight)), ml_dtypes.bfloat16)
    for k in range(features.shape[1]):
        total = total + np.multiply.outer(features[:, k], weight[:, k]).astype(total.dtype)
    return total.astype(np.float64)
