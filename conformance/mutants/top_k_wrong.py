"""cross_entropy of a few classes a row with one mistake each, most of them in reading the list."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import xloss
from xloss_conformance.packed import value_and_grad
from xloss_conformance.top_k import IGNORED, TOP_K, pack, slots, written_out

from . import Array, planted


def right(x: Array, t: Array, /, **options: Any) -> tuple[Any, Any]:
    """Return the loss of packed targets, and its gradient."""
    return value_and_grad(TOP_K, x, t, options, both=False)[:2]


def read_as(change: Callable[[Array, Array, int], Array]) -> Callable[..., Any]:
    """Return the loss of packed targets that `change` makes of indices, probabilities and C."""
    return lambda x, t, /, **options: right(x, change(*slots(t), x.shape[-1]), **options)


whole = partial(planted, "top k", loss=TOP_K)
listed = partial(whole, by=read_as)


@listed()
def last_of_two_entries_wins(indices: Array, probs: Array, classes: int) -> Array:
    again = np.triu(indices[:, :, None] == indices[:, None, :], 1).any(-1)
    return pack(indices, np.where(again, 0.0, probs))


@listed()
def an_empty_slot_wraps(indices: Array, probs: Array, classes: int) -> Array:
    """Its index counts from the end, as NumPy's do."""
    at_end = np.where(indices == IGNORED, classes - 1, indices)
    return pack(at_end, np.where(np.isnan(probs), 0.125, probs))


@listed()
def divided_by_its_sum(indices: Array, probs: Array, classes: int) -> Array:
    return pack(indices, probs / probs.sum(-1, keepdims=True))


@whole()
def rest_over_every_class(x: Array, t: Array, /, *, rest: str = "zero", **options: Any) -> Any:
    """The rest is spread over the listed classes too."""
    dense = written_out(t, x.shape[-1], x > -np.inf, "zero")
    left = np.maximum(1 - dense.sum(-1, keepdims=True), 0.0) if rest == "uniform" else 0.0
    return xloss.value_and_grad(xloss.cross_entropy)(x, dense + left / x.shape[-1], **options)


@whole()
def mean_over_rows(x: Array, t: Array, /, *, reduction: str = "mean", **options: Any) -> Any:
    if reduction == "mean":
        options["normalizer"] = float(len(x))
    return right(x, t, reduction=reduction, **options)


@whole("gradient")
def gradient_of_targets_that_add_up_to_1(x: Array, t: Array, /, **options: Any) -> Any:
    divided = read_as(divided_by_its_sum)(x, t, **options)
    return right(x, t, **options)[0], divided[1]
