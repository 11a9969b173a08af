"""Rows of special values, drawn at random from a fixed seed, as cases that the suite judges.

Zeros of both signs, subnormal and huge numbers, infinities and NaN, in logits, probabilities and
targets, under every option.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from expected import BINARY, CLASS, FIRST
from judged import hold
from xloss_conformance.model import Case

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
        return np.where(rng.random(shape) < 0.6, special, plain).astype(np.float32).astype(float)

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


@pytest.mark.parametrize("where", LIBRARIES)
def test_special_values(where: str) -> None:
    library, _, engine = where.partition(" ")
    cases = []
    for number, (name, options, soft) in enumerate(CASES):
        if where == "jax" and number % 6:
            continue  # each case is compiled for a second
        x, t = drawn(number, name, options, soft)
        if where == "jax":  # XLA takes a subnormal for 0
            x = np.where(abs(x) <= TINY, 0, x)
        asked = {**options, "reduction": "none"}
        label = f"{name} {options} {'soft' * soft}"
        cases.append(Case("special", label, "", x, t, name, asked, to_targets=soft))
    assert hold(library, "float32", cases, engine=engine) == len(cases)
