"""Losses of several arrays, or of several results, as the suite calls them with one of each.

linear_cross_entropy: its features, weight and bias are one argument: rows of features with a 0
behind each; below them rows of the weight, the class's bias behind each. So one gradient, of that
shape, holds all three; what stands behind the features has gradient 0. The answer is the oracle's
rows, and the chain rule in its digits.

token_stats: its fields stand side by side in one array, (*rows, fields). So one value has them all,
and a gradient that any but the loss had would show: the upstream of a row goes to every field.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import xloss

from . import top_k
from .model import Array, Called, Case, Stored
from .top_k import TOP_K

LINEAR = "linear_cross_entropy"
LINEAR_TOKENS = "linear_token_stats"
TOKENS = ("token_stats", LINEAR_TOKENS)
FIELDS = xloss.TokenStats._fields


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


# ---- The fields of token_stats -------------------------------------------------------------------


def upstream_of(upstream: Any, fields: int) -> Any:
    """Return an upstream gradient of rows as one of each field."""
    return upstream if np.ndim(upstream) == 0 else np.repeat(upstream[..., None], fields, axis=-1)


def fields_of(case: Case) -> tuple[str, ...]:
    """Return the fields that a case's value has."""
    return FIELDS if case.options.get("rank") else FIELDS[:-1]


def loss_alone(case: Case, arguments: Stored) -> tuple[Case, Stored]:
    """Return the case that the row losses are, and its arguments."""
    own = {k: v for k, v in arguments.options.items() if k != "rank"} | {"reduction": "none"}
    loss = LINEAR if case.loss == LINEAR_TOKENS else "cross_entropy"
    return replace(case, loss=loss, options=own), arguments._replace(options=own)


def source() -> bytes:
    """Return the source of the definition."""
    return Path(__file__).with_name("token_oracle.py").read_bytes()


# ---- The calls -----------------------------------------------------------------------------------


def public(loss: str) -> Callable[..., Any]:
    """Return the public function that a case of that loss is about."""
    function: Callable[..., Any] = getattr(xloss, "cross_entropy" if loss == TOP_K else loss)
    return function


def call(function: Callable[..., Any], loss: str, x: Any, t: Any, options: dict[str, Any]) -> Any:
    """Call a function of a loss's own arguments; pack the gradients that it may return."""
    if loss in (LINEAR, LINEAR_TOKENS):
        features, weight, bias = unpack(x, t.shape[0])
        made = function(features, weight, t, bias=bias, **options)
    else:
        made = function(x, **options) if t is None else function(x, t, **options)
    if loss in TOKENS:
        return _stacked(made)
    if loss == LINEAR and isinstance(made, tuple):
        return made[0], joined(x, *made[1])
    return made


def value(loss: str, x: Any, t: Any, options: dict[str, Any]) -> Any:
    """Return what xloss makes of packed arguments."""
    if loss == TOP_K:
        rest, options = _rest(options)
        t = top_k.unpack(t, rest)
    return call(public(loss), loss, x, t, options)


def value_and_grad(loss: str, x: Any, t: Any, options: dict[str, Any], both: bool) -> Called:
    """Return the value and the closed-form gradients to x and, if it is wanted, to the targets."""
    own: Any
    if loss == LINEAR:
        features, weight, bias = unpack(x, t.shape[0])
        own = xloss.value_and_grad(public(loss), (0, 1, "bias", 2)[: 3 + both])
        value, grads = own(features, weight, t, bias=bias, **options)
        return value, joined(x, *grads[:3]), grads[3] if both else None
    own = xloss.value_and_grad(public(loss), (0, 1)[: 1 + both])
    if loss == TOP_K:
        rest, options = _rest(options)
        value, grads = own(x, top_k.unpack(t, rest), **options)
        xp = namespace(x)
        slots = [xp.concat([xp.zeros_like(by), by], axis=-1) for by in grads[1:]]
        return value, grads[0], slots[0] if both else None
    value, grads = own(x, **options) if t is None else own(x, t, **options)
    return value, grads[0], grads[1] if both else None


def _rest(options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Take the option apart that belongs to TopKTargets."""
    return options.get("rest", "zero"), {k: v for k, v in options.items() if k != "rest"}


def _stacked(stats: Any) -> Any:
    """Return the fields that are there in one array of the loss's dtype."""
    loss = stats[0]
    xp = namespace(loss)
    cast = xp.cast if xp.__name__ == "tensorflow" else xp.astype
    return xp.stack([cast(v, loss.dtype) for v in stats if v is not None], axis=-1)
