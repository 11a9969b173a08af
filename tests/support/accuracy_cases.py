"""Rows on which cross-entropies lose digits, and their labels.

Logits stand on a 2^-10 grid, so that every subtraction of two of them is exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from xloss_conformance import oracle

GAPS = (0.5, 5, 8, 12, 17, 20, 40, 80, 82)
OFFSETS = (0.0, 1e3, -1e3, 6e4)


@dataclass(frozen=True)
class Case:
    """One row, its target and options of the loss."""

    name: str
    x: tuple[float, ...]
    target: int
    options: dict[str, Any] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return self.name


def grid(values: Any) -> np.ndarray:
    return np.round(np.asarray(values) * 1024) / 1024


def random(classes: int, seed: int, scale: float = 3.0) -> np.ndarray:
    return grid(np.random.default_rng([seed, classes]).standard_normal(classes) * scale)


def confident(gap: float, offset: float, classes: int) -> np.ndarray:
    z = np.full(classes, -float(gap))
    z[0] = 0.0
    z[2:] -= grid(np.random.default_rng(classes).random(max(0, classes - 2)))
    return z + offset


def plain() -> Iterator[Case]:
    """Cross-entropy on class indices: the tail, offsets, many classes, masks."""

    def case(name: str, z: np.ndarray, y: int) -> Case:
        stored = np.float32(z).astype(float)  # at 6·10^4 the grid is float32's own
        return Case(name, tuple(stored.tolist()), y)

    for gap in GAPS:
        for offset in OFFSETS:
            for classes in (2, 10):
                z = confident(gap, offset, classes)
                yield case(f"gap {gap} offset {offset:g} classes {classes}", z, 0)
        yield case(f"gap {gap} wrong label", confident(gap, 0.0, 10), 1)
    yield case("one class", np.zeros(1), 0)
    yield case("1000 equal classes", np.full(1000, 3.0), 17)
    for classes in (1000, 4096):
        z = random(classes, 1)
        yield case(f"{classes} classes", z, 5)
        yield case(f"{classes} classes, label on top", z, int(z.argmax()))
        tail = -8 - grid(np.random.default_rng(classes).random(classes))
        tail[3] = 0
        yield case(f"{classes} classes, long tail", tail, 3)
    masked = random(12, 2)
    masked[::3] = -np.inf
    yield case("masked classes", masked, 1)
    ties = random(12, 3)
    ties[4] = ties[7] = ties.max() + 9
    yield case("ties at the maximum", ties, 4)


WEIGHT = tuple((np.arange(1, 13) / 8).tolist())


def variants() -> Iterator[Case]:
    """Cross-entropy of a label under every option, on a few rows."""
    masked = random(12, 5)
    masked[[2, 7]] = -np.inf
    rows = {
        "spread": random(12, 4),
        "masked": masked,
        "gap 17": confident(17, 0.0, 12),
        "gap 40 offset 1000": confident(40, 1e3, 12),
    }
    options: dict[str, dict[str, Any]] = {
        "plain": {},
        "weight": {"weight": WEIGHT},
        "smooth": {"label_smoothing": 0.1},
        "smooth all": {"label_smoothing": 1.0},
        "sample weight": {"sample_weight": 0.375},
        "weight smooth": {"weight": WEIGHT, "label_smoothing": 0.25},
        "z": {"z_loss": 2.0**-7},
        "z smooth": {"z_loss": 0.125, "label_smoothing": 0.1},
        "softcap": {"softcap": 8.0},
    }
    for row_name, z in rows.items():
        for option_name, given in options.items():
            if "softcap" in given and row_name.endswith("1000"):
                continue  # every capped logit is the cap: nothing to lose
            yield Case(f"{row_name} {option_name}", tuple(z.tolist()), 1, given)


# To one thread, a few, a warp, a block; to two blocks, four and eight: by how many bytes they take.
CLASSES = (3, 7, 60, 127, 500, 2000, 8203, 16387, 32771)


def divided(dtype: str) -> Iterator[Case]:
    """Rows as a GPU divides them, their logits on no grid; gaps down to where numbers end."""

    def case(name: str, z: np.ndarray, y: int) -> Case:
        return Case(name, tuple(np.asarray(z, dtype).astype(float).tolist()), y)

    draw = np.random.default_rng(11)
    for classes in CLASSES:
        z = np.float32(draw.standard_normal(classes) * 3)
        yield case(f"{classes} classes", z, classes // 2)
        yield case(f"{classes} classes, label on top", z, int(z.argmax()))
        if classes < 9000:
            yield case(f"{classes} classes far from 0", z - 9e3, classes - 1)
            tail = np.float32(-12 - draw.random(classes))
            tail[classes - 1] = 0.0
            yield case(f"{classes} classes, long tail", tail, classes - 1)
    for gap in (60.3, 69.4, 87.7, 95.1, 103.9) + (400.7, 740.2) * (dtype == "float64"):
        for offset in (0.0, 77.7, -8190.3, 9e3):
            z = np.asarray([offset, offset - gap, offset - gap - 0.3, -np.inf], dtype)
            yield case(f"gap {gap} offset {offset}", z, 0)
            yield case(f"gap {gap} offset {offset}, wrong label", z, 2)


@cache
def answer(case: Case) -> Any:
    """Return the oracle's row."""
    return oracle.softmax_row("cross_entropy", case.x, case.target, **case.options)
