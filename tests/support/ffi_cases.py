"""Rows for the JAX calls that the compiled engine takes, and equality of bits."""

from __future__ import annotations

from typing import Any

import numpy as np

ROWS = 40


def drawn(classes: int, dtype: Any = np.float32) -> tuple[np.ndarray, np.ndarray]:
    """Logits with ties, masked and infinite ones, a NaN row; labels ignored and out of range."""
    rng = np.random.default_rng(classes)
    z = (rng.standard_normal((ROWS, classes)) * 4).astype(dtype)
    z[1, :2] = z[1].max() + 1
    z[2, 1:] = -np.inf
    z[3, 0] = np.inf
    z[4, 1] = np.nan
    z[5] = -np.inf
    y = rng.integers(0, classes, ROWS).astype(np.int32)
    y[2], y[6], y[7], y[8] = 0, -100, classes, -1
    return z, y


def soft(classes: int, dtype: Any = np.float32) -> np.ndarray:
    t = np.random.default_rng(1).random((ROWS, classes))
    t[:, 0] = 0
    return (t / t.sum(-1, keepdims=True)).astype(dtype)


def same(got: Any, want: Any) -> None:
    """Hold every bit but a NaN's."""
    got, want = np.asarray(got), np.asarray(want)
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    nan = np.isnan(want.astype(np.float64))
    np.testing.assert_array_equal(np.isnan(got.astype(np.float64)), nan)
    bits = f"u{want.dtype.itemsize}"
    np.testing.assert_array_equal(got.view(bits)[~nan], want.view(bits)[~nan])


SAMPLE = np.where(np.arange(ROWS) % 3 == 0, 0, np.arange(ROWS) / 8).astype(np.float32)
