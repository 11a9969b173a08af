"""Rows of special values, drawn at random from a fixed seed, against the oracle.

Zeros of both signs, subnormal and huge numbers, infinities and NaN, in logits, probabilities and
targets, under every option: finite where the oracle is, infinite and NaN where it is. The distance
is held by other tests; here 2^-12 of the row's largest number will do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import xloss
from expected import BINARY, CLASS, FIRST, expected
from libraries import library
from xloss import use_engine, value_and_grad

ROWS, CLASSES = 24, 3
LIMITS = np.finfo(np.float32)
MOST, TINY, LEAST = map(float, (LIMITS.max, LIMITS.tiny, LIMITS.smallest_subnormal))
INF, NAN = np.inf, np.nan
# Differences of the largest logits overflow, which is not looked for here.
VALUES = {
    "logits": (0.0, -0.0, LEAST, -TINY, 0.5, 20, -104, 1e20, MOST / 4, -MOST / 4, INF, -INF, NAN),
    "log_probs": (-0.0, -LEAST, -1, -20, -104, -1e20, -MOST / 4, -INF, INF, NAN),
    "probs": (0.0, -0.0, LEAST, TINY, 1e-10, 0.5, 1 - 2**-24, 1, -0.5, NAN),
    "targets": (0.0, -0.0, 1e-10, 0.25, 0.5, 1 - 2**-24, 1),
    "log_targets": (0.0, -1, -20, -104, -120, -1e20, -INF, NAN),
}
WEIGHT = np.array([1, 0, 2], np.float32)
CLASS_OPTIONS = (
    {},
    {"label_smoothing": 0.125},
    {"weight": WEIGHT},
    {"weight": WEIGHT, "label_smoothing": 1.0},
)
OPTIONS: dict[str, tuple[dict[str, Any], ...]] = {
    "cross_entropy": (*CLASS_OPTIONS, {"z_loss": 0.125}, {"softcap": 8.0}),
    "focal_loss": (*CLASS_OPTIONS, {"gamma": 0.0}, {"gamma": 0.5}),
    "nll_loss": CLASS_OPTIONS,
    "log_loss": (*CLASS_OPTIONS, {"eps": 0.0}, {"eps": 2**-10}),
    "binary_cross_entropy_with_logits": ({}, {"label_smoothing": 0.125}),
    "binary_cross_entropy": ({}, {"label_smoothing": 0.125}, {"eps": 0.0}, {"eps": 2**-10}),
    "sigmoid_focal_loss": ({}, {"alpha": 0.0}, {"alpha": 1.0}, {"gamma": 0.0}, {"gamma": 0.5}),
    "kl_div": ({}, {"log_target": True}),
}
CASES = [
    (name, options, soft)
    for name, each in OPTIONS.items()
    for options in each
    for soft in ((False, True) if name in CLASS else (True,))
]
LIBRARIES = ("numpy", "numpy generic", "torch", "jax")


def drawn(case: int, name: str, options: dict[str, Any], soft: bool) -> tuple[Any, Any]:
    """Inputs and targets, each number special or not."""
    rng = np.random.default_rng([7, case])
    shape = (ROWS,) if name in BINARY else (ROWS, CLASSES)

    def mixed(kind: str, plain: np.ndarray) -> np.ndarray:
        special = rng.choice(np.array(VALUES[kind]), shape)
        return np.where(rng.random(shape) < 0.6, special, plain).astype(np.float32)

    ordinary = 3 * rng.normal(size=shape)
    kind = FIRST[name]
    x = mixed(kind, {"probs": rng.random(shape), "log_probs": -abs(ordinary)}.get(kind, ordinary))
    if not soft:
        return x, rng.integers(0, CLASSES, ROWS)
    if options.get("log_target"):
        return x, mixed("log_targets", -abs(ordinary))
    t = mixed("targets", rng.random(shape))
    if name not in BINARY:
        t[0] = 0
    return x, t


def differs(got: float, want: float, size: float) -> bool:
    """Tell whether a number is not what it should be, to 2^-12 of `size`."""
    if np.isnan(want):
        return not np.isnan(got)
    if abs(want) > MOST:
        return not (np.isinf(got) and np.sign(got) * want > 0)
    return not abs(float(got) - want) <= 2.0**-12 * max(size, abs(want)) + 8 * TINY


def largest(numbers: np.ndarray) -> float:
    """The largest that is finite."""
    return float(np.max(np.abs(numbers), initial=0.0, where=np.isfinite(numbers)))


@pytest.mark.parametrize("where", LIBRARIES)
def test_special_values(where):
    lib = library(where.split()[0])
    wrong = []
    for number, (name, options, soft) in enumerate(CASES):
        if where == "jax" and number % 6:
            continue  # each case is compiled for a second
        x, t = drawn(number, name, options, soft)
        if where == "jax":  # XLA takes a subnormal for 0
            x = np.where(abs(x) <= TINY, 0, x)
        want = expected(name, x, t, reduction="none", **options)
        given = {k: lib.array(v) if k == "weight" else v for k, v in options.items()}
        run = value_and_grad(getattr(xloss, name), (0, 1) if soft else (0,))
        with use_engine("generic") if "generic" in where else lib.used():
            rows, grads = run(lib.array(x), lib.like(t), reduction="none", **given)
        rows, grads = lib.host(rows), [lib.host(g) for g in grads]
        slopes = zip(("slope", "slope to the targets"), grads, want[2:], strict=False)
        by_kind = [("loss", rows, want.rows), *slopes]
        for i in range(len(x)):
            off, size = [], largest(x[i])
            for kind, of_rows, exact in by_kind:
                # A slope is of probabilities, or 1/p times them; the others are losses.
                scale = size if kind != "slope" else 0.0
                scale = scale if kind == "loss" else max(largest(exact[i]), scale, 1e-6)
                pairs = zip(np.atleast_1d(of_rows[i]), np.atleast_1d(exact[i]), strict=True)
                off += [(kind, a, b, scale) for a, b in pairs]
            call = f"{name} {options} x={x[i].tolist()} t={t[i].tolist()}"
            wrong += [
                f"{call}: {what} {got}, not {right:.9g}"
                for what, got, right, scale in off
                if differs(got, right, scale)
            ][:1]
    assert not wrong, "\n".join(wrong[:20])
