"""Inputs in each loss's own domain, and what must come out of them by the mpmath oracle.

Inputs are exact in float32 (logits on a 2^-10 grid, probabilities in 1024ths), so that one expected
number serves every dtype.
"""

from __future__ import annotations

import pickle
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np

import xloss
from xloss_conformance.budget import errors as off
from xloss_conformance.expected import compute
from xloss_conformance.model import Case, Stored

CLASS = ("cross_entropy", "nll_loss", "log_loss", "focal_loss")
BINARY = ("binary_cross_entropy_with_logits", "binary_cross_entropy", "sigmoid_focal_loss")
SOFT_ONLY = ("kl_div",)
LOSSES = (*CLASS, *BINARY, *SOFT_ONLY)  # all that take targets
FROM_PROBS = ("log_loss", "binary_cross_entropy")
# What each loss calls its first argument.
FIRST = {
    **dict.fromkeys(LOSSES, "logits"),
    **dict.fromkeys(("nll_loss", "kl_div"), "log_probs"),
    **dict.fromkeys(FROM_PROBS, "probs"),
}


def loss(name: str) -> Any:
    return getattr(xloss, name)


def inputs(name: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Logits, log-probabilities or probabilities, as the loss takes them; not normalised."""
    rng = np.random.default_rng([seed, 1])
    if name in FROM_PROBS:
        return rng.integers(1, 1024, shape) / 1024
    z = rng.integers(-4096, 4096, shape) / 1024
    return -abs(z) - 1 / 1024 if name in ("nll_loss", "kl_div") else z


def soft(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Probabilities in 64ths along the last axis, sums of 1, zeros among them."""
    rng = np.random.default_rng([seed, 2])
    return rng.multinomial(64, [1 / shape[-1]] * shape[-1], shape[:-1]) / 64


def labels(rows: int, classes: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, 3]).integers(0, classes, rows)


def targets(name: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Targets the loss takes: labels where it can, else probabilities of the inputs' shape."""
    if name in CLASS:
        return labels(shape[0], shape[-1], seed)
    if name in BINARY:
        return np.random.default_rng([seed, 4]).integers(0, 65, shape) / 64
    return soft(shape, seed)


def shape(name: str, rows: int, classes: int) -> tuple[int, ...]:
    """The shape of `rows` rows: the binary losses have no classes."""
    return (rows,) if name in BINARY else (rows, classes)


class Expected(NamedTuple):
    """The nearest float64 numbers: the reduced value, row losses, gradients (0 where absent)."""

    value: np.ndarray
    rows: np.ndarray
    grad: np.ndarray
    grad_targets: np.ndarray | None  # to soft targets, and to those of a binary loss


def expected(name: str, x: Any, t: Any, **options: Any) -> Expected:
    """The oracle's answer to a call on rows: x is (N, C), or (N) for a binary loss.

    With reduction="none" the gradient is that of the sum. It is computed once for all libraries
    that are asked the same.
    """
    return _expected(pickle.dumps((name, np.asarray(x), np.asarray(t), options)))


@cache
def _expected(call: bytes) -> Expected:
    name, x, t, options = pickle.loads(call)
    given = {k: v for k, v in options.items() if v is not None or k == "ignore_index"}
    arrays = {k: np.asarray(v) if np.ndim(v) else v for k, v in given.items()}
    case = Case("", "", "", x, t, name, to_targets=name in BINARY or t.dtype.kind == "f")

    def answer(asked: dict[str, Any]) -> Any:
        return compute(replace(case, options=asked), Stored(x, t, asked, 1.0, "float64"))

    of_rows = {k: v for k, v in arrays.items() if k != "normalizer"} | {"reduction": "none"}
    each = answer(of_rows)
    whole = each if options.get("reduction") == "none" else answer(arrays)
    by_targets = None if whole.grad_targets is None else whole.grad_targets.hi
    return Expected(whole.value.hi, each.value.hi, whole.grad.hi, by_targets)


def errors(got: Any, want: Any, dtype: str, scale: float = 0.0) -> np.ndarray:
    """Each row's error, in units in the last place of its largest finite number, or of `scale`."""
    got, want = np.atleast_1d(got), np.atleast_1d(want)
    assert got.shape == want.shape, (got.shape, want.shape)
    got, want = (a.reshape(len(a), -1).astype(np.float64) for a in (got, want))
    sizes = np.where(np.isfinite(want), np.abs(want), 0.0)
    largest = np.maximum(sizes.max(-1, keepdims=True, initial=0.0), scale)
    return off(got, want, np.zeros(()), dtype, largest).max(-1, initial=0.0)


def close(
    got: Any,
    want: Any,
    dtype: str = "float32",
    within: float = 8,
    scale: float = 0.0,
    lost: float = 0.0,
) -> None:
    """Assert that got is want to a few units in the last place; NaN and infinities exactly.

    `scale` is for a difference: the size of its two terms. `lost`: what a result may be off where a
    library makes 0 of the subnormal numbers on the way to it.
    """
    found = errors(got, want, dtype, scale)
    if lost:
        near = errors(got, want, dtype, lost / float(np.finfo(dtype).eps))
        found = np.where(near <= 1, 0.0, found)
    worst = int(np.argmax(found))
    assert found[worst] <= within, (
        f"{found[worst]:.3g} ulp in row {worst}, {sum(found > within)} rows of {len(found)}: "
        f"got {np.atleast_1d(got)[worst]}, want {np.atleast_1d(want)[worst]}"
    )


def near(a, b, ulps, scale=0.0):
    """Assert that two results differ by some units in the last place of their size, or of scale."""
    a, b = np.asarray(a), np.asarray(b)
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(np.isfinite(a), np.isfinite(b))
    fine = np.isfinite(a)
    np.testing.assert_array_equal(a[~fine], b[~fine])
    a, b, scale = a[fine], b[fine], np.broadcast_to(scale, a.shape)[fine]
    size = np.maximum(np.maximum(abs(a), abs(b)), scale).astype(a.dtype)
    off = abs(a - b) / np.spacing(np.maximum(size, np.finfo(a.dtype).tiny))
    assert not (off > ulps).any(), f"{off.max()} ulp between {a} and {b}"
