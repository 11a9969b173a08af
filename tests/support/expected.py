"""Inputs in each loss's own domain, and what must come out of them by the mpmath oracle.

Inputs are exact in float32 (logits on a 2^-10 grid, probabilities in 1024ths), so that one expected
number serves every dtype.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

import xloss
from xloss_conformance import oracle

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


@dataclass(frozen=True)
class Expected:
    """Exact numbers: the reduced value, the row losses, the gradients by row (0 where absent)."""

    value: Any
    rows: list[Any]
    grad: list[Any]
    grad_targets: list[Any]


def expected(name: str, x: Any, t: Any, **options: Any) -> Expected:
    """The oracle's answer to a call on rows: x is (N, C), or (N) for a binary loss.

    It is computed once for all libraries that are asked the same.
    """
    return _expected(pickle.dumps((name, np.asarray(x), np.asarray(t), options)))


@cache
def _expected(call: bytes) -> Expected:
    name, x, t, options = pickle.loads(call)
    return _computed(name, x, t, **options)


def _computed(
    name: str,
    x: np.ndarray,
    t: np.ndarray,
    *,
    sample_weight: Any = None,
    where: Any = None,
    ignore_index: int | None = -100,
    reduction: str = "mean",
    normalizer: Any = None,
    **options: Any,
) -> Expected:
    s = np.ones(len(x)) if sample_weight is None else np.broadcast_to(sample_weight, len(x))
    keep = np.broadcast_to(True if where is None else where, len(x)) & (s != 0)
    if t.dtype.kind in "iu" and name in CLASS and ignore_index is not None:
        keep = keep & (t != ignore_index)
    each = [dict(options) for _ in x]
    if options.get("pos_weight") is not None:
        for own, w in zip(each, np.broadcast_to(options["pos_weight"], len(x)), strict=True):
            own["pos_weight"] = float(w)
    rows = [
        row(name, a, b, float(w), own) if k else None
        for a, b, w, k, own in zip(x, t, s, keep, each, strict=True)
    ]
    normalizer = None if normalizer is None else float(normalizer)
    # With reduction="none" the gradient is that of the sum.
    how = "sum" if reduction == "none" else reduction
    got = oracle.reduce(rows, reduction=how, normalizer=normalizer)
    zero = oracle.ZERO if name in BINARY else [oracle.ZERO] * x.shape[-1]
    return Expected(
        got.value,
        [r.loss if r else oracle.ZERO for r in rows],
        [zero if g is None else g for g in got.grads],
        [zero if g is None else g for g in got.grads_targets],
    )


def row(name: str, x: Any, t: Any, s: float, options: dict[str, Any]) -> Any:
    given = {k: v for k, v in options.items() if v is not None}
    if "weight" in given:
        given["weight"] = [float(w) for w in given["weight"]]
    if name in BINARY:
        return oracle.binary_row(name, float(x), float(t), sample_weight=s, **given)
    z = [float(v) for v in x]
    if name == "kl_div":
        return oracle.kl_row(z, [float(v) for v in t], sample_weight=s, **given)
    target = int(t) if t.dtype.kind in "iu" else [float(v) for v in t]
    return oracle.softmax_row(name, z, target, sample_weight=s, **given)


def errors(got: Any, want: Any, dtype: str, scale: float = 0.0) -> list[float]:
    """Each row's error, in units in the last place of its largest finite number, or of `scale`."""
    got = np.atleast_1d(np.asarray(got))
    wanted = want if isinstance(want, list) else [want]
    assert len(got) == len(wanted), (got.shape, len(wanted))
    out = []
    for a, b in zip(got, wanted, strict=True):
        row = b if isinstance(b, list) else [b]
        values = np.atleast_1d(a)
        assert len(row) == len(values), (values.shape, len(row))
        finite = [abs(v) for v in row if oracle.mp.isfinite(v)]
        largest = max(finite, default=oracle.ZERO)
        largest = max(largest, oracle.mp.mpf(scale))
        worst = max(
            oracle.ulp_error(float(v), w, dtype, largest if oracle.mp.isfinite(w) else None)
            for v, w in zip(values, row, strict=True)
        )
        out.append(float(worst))
    return out


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
    off = errors(got, want, dtype, scale)
    if lost:
        near = errors(got, want, dtype, lost / float(np.finfo(dtype).eps))
        off = [0.0 if n <= 1 else o for n, o in zip(near, off, strict=True)]
    worst = int(np.argmax(off))
    wanted = want[worst] if isinstance(want, list) else want
    numbers = [float(v) for v in wanted] if isinstance(wanted, list) else float(wanted)
    assert off[worst] <= within, (
        f"{off[worst]:.3g} ulp in row {worst}, {sum(e > within for e in off)} rows of {len(off)}: "
        f"got {np.atleast_1d(np.asarray(got))[worst]}, want {numbers}"
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
