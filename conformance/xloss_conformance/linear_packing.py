"""linear_cross_entropy as the suite calls it: features, weight and bias in one argument.

Rows of features with a 0 behind each; below them rows of the weight, the class's bias behind each.
So one gradient, of that shape, holds all three; what stands behind the features has gradient 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import xloss

from .model import Array

LINEAR = "linear_cross_entropy"


def pack(features: Array, weight: Array, bias: Array) -> Array:
    """Put the three into one array."""
    left = np.concatenate([features, np.zeros((len(features), 1))], axis=1)
    return np.concatenate([left, np.concatenate([weight, bias[:, None]], axis=1)])


def unpack(x: Any, rows: int) -> tuple[Any, Any, Any]:
    """Take features, weight and bias apart: views where the library has them."""
    return x[:rows, :-1], x[rows:, :-1], x[rows:, -1]


def called(function: Callable[..., Any], x: Any, targets: Any, options: dict[str, Any]) -> Any:
    """Call a function of (features, weight, targets, bias=); pack the gradients it may return."""
    features, weight, bias = unpack(x, targets.shape[0])
    made = function(features, weight, targets, bias=bias, **options)
    if not isinstance(made, tuple):
        return made
    value, (by_features, by_weight, by_bias) = made
    return value, joined(x, by_features, by_weight, by_bias)


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


class _Packed:
    """The loss on packed arguments, and its closed-form gradient."""

    __name__ = LINEAR

    def __call__(self, x: Any, targets: Any, /, **options: Any) -> Any:
        return called(xloss.linear_cross_entropy, x, targets, options)

    def value_and_grad(self, argnums: int | tuple[int, ...]) -> Callable[..., tuple[Any, Any]]:
        """Return a function of the packed arguments, as xloss.value_and_grad does."""
        both = isinstance(argnums, tuple)
        wanted = (0, 1, "bias", 2) if both else (0, 1, "bias")
        own = xloss.value_and_grad(xloss.linear_cross_entropy, wanted)

        def run(x: Any, targets: Any, **options: Any) -> tuple[Any, Any]:
            features, weight, bias = unpack(x, targets.shape[0])
            value, grads = own(features, weight, targets, bias=bias, **options)
            made = joined(x, *grads[:3])
            return value, (made, grads[3]) if both else made

        return run


linear_cross_entropy = _Packed()
