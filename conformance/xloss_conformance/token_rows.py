"""`token_stats` as the suite calls it: its fields side by side in one array, (*rows, fields).

So one value has them all, and a gradient that any but the loss had would show: the upstream of a
row goes to every field.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import xloss

from . import linear
from .linear import LINEAR
from .model import Allowed, Array, Case, Stored

LINEAR_TOKENS = "linear_token_stats"
TOKENS = ("token_stats", LINEAR_TOKENS)
FIELDS = xloss.TokenStats._fields
EXACT = ("correct", "rank")  # which are no results of rounded arithmetic


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


def columns(case: Case, arguments: Stored, value: Array, loss: Allowed, bent: Array) -> Allowed:
    """Return the budget of every field from that of the losses, (*rows).

    value: the exact fields. bent: what rounded exponents add, relative, in ulp.

    | field | ulp |
    | --- | --- |
    | loss | that of cross_entropy |
    | lse | 4, of the largest of m, L and lse, which may cancel |
    | entropy | 4: L and Σ p (m - z) have no term below 0. An error of a logit changes H by up to \
twice that share of H |
    | max_prob | 4 |
    | z_term | twice that of lse, of λ W times the square of lse's scale |
    | weight | 4: a product |
    | correct, rank | none |
    """
    x = np.moveaxis(np.asarray(arguments.x, np.float64), case.axis, -1)
    if case.loss == LINEAR_TOKENS:
        x = linear.product(arguments)
    options = arguments.options
    names = fields_of(case)
    with np.errstate(all="ignore"):
        cap = options.get("softcap")
        top = np.max(x, axis=-1, initial=-np.inf)
        top = cap * np.tanh(top / cap) if cap else top
        lse = value[..., 1]
        size = np.nan_to_num(np.maximum.reduce([np.abs(top), np.abs(lse), np.abs(lse - top)]))
        weight = np.abs(np.nan_to_num(value[..., names.index("weight")]))
        term = float(options.get("z_loss", 0.0)) * weight * size**2
    zero, two = np.zeros(lse.shape), 2.0  # a mantissa's most
    of_lse = 4.0 + two * bent
    by_name = {
        "loss": loss,
        "lse": Allowed(of_lse, size),
        "entropy": Allowed(4.0 + two * two * bent, zero),
        "max_prob": Allowed(4.0 + two * bent, zero),
        "z_term": Allowed(2 * of_lse, term),
        "weight": Allowed(np.asarray(4.0), zero),
        **dict.fromkeys(EXACT, Allowed(np.asarray(0.5), zero)),
    }
    ulps, scales = zip(*(by_name[name] for name in names), strict=True)
    return Allowed(_side_by_side(ulps, lse.shape), _side_by_side(scales, lse.shape))


def _side_by_side(values: Sequence[Any], shape: tuple[int, ...]) -> Array:
    return np.stack([np.broadcast_to(np.asarray(v, float), shape) for v in values], axis=-1)
