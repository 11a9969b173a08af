"""linear_cross_entropy as the suite calls it: features, weight and bias in one argument.

Rows of features with a 0 behind each; below them rows of the weight, the class's bias behind each.
So one gradient, of that shape, holds all three; what stands behind the features has gradient 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .model import Array

LINEAR = "linear_cross_entropy"


def pack(features: Array, weight: Array, bias: Array) -> Array:
    """Put the three into one array."""
    left = np.concatenate([features, np.zeros((len(features), 1))], axis=1)
    return np.concatenate([left, np.concatenate([weight, bias[:, None]], axis=1)])


def unpack(x: Any, rows: int) -> tuple[Any, Any, Any]:
    """Take features, weight and bias apart: views where the library has them."""
    return x[:rows, :-1], x[rows:, :-1], x[rows:, -1]


def joined(x: Any, by_features: Any, by_weight: Any, by_bias: Any) -> Any:
    """Put the three gradients into one array of their own library."""
    xp = namespace(x)
    below = xp.concat([by_weight, by_bias[:, None]], axis=1)
    left = xp.concat([by_features, xp.zeros_like(x[: by_features.shape[0], :1])], axis=1)
    return xp.concat([left, below], axis=0)


def namespace(x: Any) -> Any:
    """Return the array's Array API namespace; TensorFlow has none, but what is needed here."""
    if type(x).__module__.startswith("tensorflow."):
        import tensorflow

        return tensorflow
    import array_api_compat

    return array_api_compat.array_namespace(x)
