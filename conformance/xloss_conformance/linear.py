"""linear_cross_entropy as the suite calls it, and what must come of it.

Its features, weight and bias are one argument: rows of features with a 0 behind each; below them
rows of the weight, the class's bias behind each. So one gradient, of that shape, holds all three;
what stands behind the features has gradient 0. The answer is the oracle's rows, and the chain rule
in its digits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from .model import Array, Case, Stored

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


def logits_case(case: Case, arguments: Stored, logits: Array) -> tuple[Case, Stored]:
    """Return the case that cross_entropy of those logits is, and its arguments."""
    options = {"weight" if k == "class_weight" else k: v for k, v in arguments.options.items()}
    options.pop("block_rows", None)
    asked = replace(case, loss="cross_entropy", x=logits, options=options)
    return asked, arguments._replace(x=logits, options=options)


def floats(arguments: Stored) -> tuple[Array, Array, Array]:
    """Return features, weight and bias in float64."""
    assert arguments.targets is not None
    return unpack(arguments.x.astype(np.float64), len(arguments.targets))


def product(arguments: Stored) -> Array:
    """Return the logits in float64."""
    features, weight, bias = floats(arguments)
    with np.errstate(all="ignore"):
        return np.asarray(features @ weight.T + bias)


def exact_logits(arguments: Stored) -> Array:
    """Return the logits as exact sums, in an array of the oracle's numbers."""
    from . import oracle

    features, weight, bias = (v.tolist() for v in floats(arguments))
    out = np.empty((len(features), len(weight)), object)
    for i, row in enumerate(features):
        for j, column in enumerate(weight):
            terms = [oracle.mp.mpf(p) * oracle.mp.mpf(q) for p, q in zip(row, column, strict=True)]
            out[i, j] = sum(terms, oracle.mp.mpf(bias[j]))
    return out


def chain(arguments: Stored, by_row: list[Any]) -> list[list[Any]]:
    """Return the gradient to the packed argument from each row's to its logits; None: absent."""
    from . import oracle

    features, weight, _ = (v.tolist() for v in floats(arguments))
    zero, width = oracle.ZERO, arguments.x.shape[1] - 1
    left = [
        [zero] * width
        if g is None
        else [sum((g[j] * w[k] for j, w in enumerate(weight)), zero) for k in range(width)]
        for g in by_row
    ]
    # Where no row weighs anything every gradient is 0, whatever stands in the features.
    there = [(g, x) for g, x in zip(by_row, features, strict=True) if g is not None and any(g)]
    below = [
        [
            *(sum((g[j] * x[k] for g, x in there), zero) for k in range(width)),
            sum((g[j] for g, _ in there), zero),
        ]
        for j in range(len(weight))
    ]
    return [[*row, zero] for row in left] + below


def scales(arguments: Stored, by_logit: Array, absent: Array) -> Array:
    """Return Σ|terms| of each entry of the packed gradient, from each logit's gradient's scale."""
    features, weight, _ = floats(arguments)
    g = np.where(absent[:, None], 0.0, np.broadcast_to(by_logit, (len(features), len(weight))))
    x = np.where(absent[:, None], 0.0, np.abs(features))
    with np.errstate(all="ignore"):
        left = np.concatenate([g @ np.abs(weight), np.zeros((len(g), 1))], axis=1)
        below = np.concatenate([g.T @ x, g.sum(0)[:, None]], axis=1)
    return np.asarray(np.concatenate([left, below]))
