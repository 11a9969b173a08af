"""Numbers that cases are made of: logits on a 2^-10 grid, so that subtractions are exact."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..model import Array

NAN, INF = float("nan"), float("inf")
# The dtypes of cases that say nothing more in the others: a compiler builds each one anew.
ONE, WIDE = ("float32",), ("float32", "float64")


def grid(values: Any) -> Array:
    """Round to multiples of 2^-10."""
    return np.asarray(np.round(np.asarray(values, np.float64) * 1024) / 1024)


def logits(rows: int, classes: int, seed: int = 0, scale: float = 3.0) -> Array:
    rng = np.random.default_rng([seed, rows, classes])
    return grid(rng.standard_normal((rows, classes)) * scale)


def soft(rows: int, classes: int, seed: int = 0) -> Array:
    """Probabilities in 64ths, which every dtype holds; rows sum to 1, zeros among them."""
    rng = np.random.default_rng([seed, rows, classes, 7])
    return np.asarray(rng.multinomial(64, rng.dirichlet([0.4] * classes, rows)) / 64)


def labels(rows: int, classes: int, seed: int = 0, dtype: str = "int64") -> Array:
    return np.random.default_rng([seed, rows, classes, 8]).integers(0, classes, rows).astype(dtype)


def weights(count: int, seed: int = 0) -> Array:
    """Positive weights in eighths."""
    return np.asarray(np.random.default_rng([seed, count, 9]).integers(1, 17, count) / 8)


def confident(gap: float, offset: float = 0.0, classes: int = 10) -> Array:
    """One row whose class 0 is ahead of class 1 by `gap`, and of the others by more."""
    z = np.full(classes, -float(gap))
    z[0] = 0.0
    z[2:] -= grid(np.random.default_rng(classes).random(max(0, classes - 2)))
    return np.asarray(z + offset)[None]


def changed(values: Array, at: Any, to: Any) -> Array:
    """Return a copy with one place changed."""
    copy = values.copy()
    copy[at] = to
    return copy


# Most cases are of this shape, so that a compiler meets it once: 6 rows, 5 classes.
X = logits(6, 5)
Y = np.array([0, 3, 1, 4, 2, 2])
P = soft(6, 5)
W = weights(5)
S = weights(6)
KEEP = np.array([True, True, False, True, True, False])
# Two or three classes masked in every row, the label's never.
MASK = (
    np.array([list(row) for row in ("-x-x-", "x-x--", "--xxx", "xx---", "-x--x", "x--xx")]) == "x"
)
MASKED = np.where(MASK, -INF, X)
# P with what lies on masked classes moved to the label.
P_MASKED = np.where(MASK, 0.0, P)
P_MASKED[np.arange(6), Y] += P.sum(axis=1, where=MASK)
EVERY: dict[str, Any] = {"weight": W, "sample_weight": S, "where": KEEP, "label_smoothing": 0.125}
EVERY |= {"z_loss": 0.0625, "softcap": 8.0}
