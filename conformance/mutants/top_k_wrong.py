"""cross_entropy of a few classes a row on NumPy: a right one, and some with one mistake each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xloss_conformance.top_k import IGNORED, TOP_K, absent, slots, written_out

from . import Mutant
from .numpy_right import Array, CrossEntropy

# What makes soft targets of all classes from packed ones, the possible classes and `rest`.
Writer = Callable[[Array, Array, str], Array]


def right(targets: Array, possible: Array, rest: str) -> Array:
    """Write the soft targets out."""
    return written_out(targets, possible.shape[-1], possible, rest)


def top_k(
    write: Writer = right, *, by_rows: bool = False, slope: bool = False
) -> Callable[..., Any]:
    """Return the loss of soft targets that `write` makes.

    by_rows: the mean divides by the number of rows. slope: the gradient is that
    of targets that add up to 1.
    """

    def loss(
        x: Array,
        targets: Array,
        /,
        *,
        rest: str = "zero",
        where: Any = True,
        reduction: str = "mean",
        normalizer: Any = None,
        cotangent: Any = 1.0,
        **options: Any,
    ) -> tuple[Any, Array]:
        keep = np.broadcast_to(where, x.shape[:-1]) & ~absent(targets)
        possible = x > -np.inf
        t = write(targets, possible, rest)
        options = {**options, "where": keep, "reduction": reduction, "cotangent": cotangent}
        if reduction == "mean":
            s = np.broadcast_to(options.get("sample_weight", 1.0), keep.shape)
            whole = write(targets, np.ones_like(possible), rest)  # a mean knows no logits
            weight = np.asarray(options.get("weight", np.ones(x.shape[-1])), np.float64)
            total = np.where(keep, s * (whole @ weight), 0.0).sum()
            total = np.float64(keep.sum()) if by_rows else total
            options["normalizer"] = total if normalizer is None else normalizer
        own = CrossEntropy()
        made: tuple[Any, Array] = own(x, t, **options)
        if slope:
            made = made[0], own(x, renormalised(targets, possible, rest), **options)[1]
        return made

    return loss


def last_wins(targets: Array, possible: Array, rest: str) -> Array:
    """Of two entries for one class the last stands."""
    indices, probs = slots(targets)
    for row in range(len(indices)):
        for k, j in enumerate(indices[row]):
            if j in indices[row, k + 1 :]:
                probs[row, k] = 0.0
    return right(np.concatenate([indices, probs], -1), possible, rest)


def over_all(targets: Array, possible: Array, rest: str) -> Array:
    """The rest is spread over all possible classes, the listed ones too."""
    t = right(targets, possible, "zero")
    left = np.maximum(1 - t.sum(-1, keepdims=True), 0.0)
    count = np.maximum(possible.sum(-1, keepdims=True), 1)
    return t + np.where(possible, left / count, 0.0) if rest == "uniform" else t


def wraps(targets: Array, possible: Array, rest: str) -> Array:
    """An empty slot's index counts from the end, as NumPy's do."""
    indices, probs = slots(targets)
    probs = np.where(np.isnan(probs), 0.125, probs)
    indices = np.where(indices == IGNORED, possible.shape[-1] - 1, indices)
    return right(np.concatenate([indices, probs], -1), possible, rest)


def renormalised(targets: Array, possible: Array, rest: str) -> Array:
    """What is listed is divided by its sum."""
    t = right(targets, possible, rest)
    total = t.sum(-1, keepdims=True)
    return np.asarray(t / np.where(total == 0, 1.0, total))


def _mutant(mistake: str, make: Callable[[], Any], rule: str = "value") -> Mutant:
    return Mutant(f"top k: {mistake}", make, "top k", rule, loss=TOP_K)


TOP_K_MISTAKES = [
    _mutant("the last of two entries wins", lambda: top_k(last_wins)),
    _mutant("the rest over every class", lambda: top_k(over_all)),
    _mutant("an empty slot wraps", lambda: top_k(wraps)),
    _mutant("the list divided by its sum", lambda: top_k(renormalised)),
    _mutant("mean over the rows", lambda: top_k(by_rows=True)),
    _mutant("the gradient of targets that add up to 1", lambda: top_k(slope=True), "gradient"),
]
