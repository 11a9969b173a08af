"""Rows on which cross-entropies lose digits, and the targets they are read against.

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
    kind: str
    x: tuple[float, ...]
    target: int | tuple[float, ...]
    options: dict[str, Any] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return self.name


def grid(values: Any) -> np.ndarray:
    return np.round(np.asarray(values) * 1024) / 1024


def random(classes: int, seed: int, scale: float = 3.0) -> np.ndarray:
    return grid(np.random.default_rng([seed, classes]).standard_normal(classes) * scale)


def soft(classes: int, seed: int) -> tuple[float, ...]:
    share = np.random.default_rng([seed, 7]).multinomial(64, [1 / classes] * classes) / 64
    return tuple(share.tolist())


def confident(gap: float, offset: float, classes: int) -> np.ndarray:
    z = np.full(classes, -float(gap))
    z[0] = 0.0
    z[2:] -= grid(np.random.default_rng(classes).random(max(0, classes - 2)))
    return z + offset


def plain() -> Iterator[Case]:
    """Cross-entropy on class indices: the tail, offsets, many classes, masks."""

    def case(name: str, z: np.ndarray, y: int) -> Case:
        stored = np.float32(z).astype(float)  # at 6·10^4 the grid is float32's own
        return Case(name, "cross_entropy", tuple(stored.tolist()), y)

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
    """Every option, and every loss along a class axis, on a few rows each."""
    masked = random(12, 5)
    masked[[2, 7]] = -np.inf
    t = list(soft(12, 6))
    t[0] += t[2] + t[7]
    t[2] = t[7] = 0.0
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
    }
    extra: dict[str, dict[str, dict[str, Any]]] = {
        "cross_entropy": {
            "z": {"z_loss": 2.0**-7},
            "z smooth": {"z_loss": 0.125, "label_smoothing": 0.1},
            "softcap": {"softcap": 8.0},
        },
        "focal_loss": {f"gamma {gamma}": {"gamma": gamma} for gamma in (0.0, 0.5, 5.0)},
        "log_loss": {"eps": {"eps": 2.0**-10}},
        "nll_loss": {},
    }
    for kind, more in extra.items():
        for row_name, z in rows.items():
            x = z
            if kind == "nll_loss":
                x = grid(np.where(np.isinf(z), z, -abs(z) - 2.0**-10))
            elif kind == "log_loss":
                x = np.float32(np.exp(np.maximum(z - z.max(), -60)) / 2).astype(float)
                x[np.isinf(z)] = 0.0
            for option_name, given in {**options, **more}.items():
                for target_name, target in (("index", 1), ("soft", tuple(t))):
                    if kind != "log_loss" and "softcap" in given and row_name.endswith("1000"):
                        continue  # every capped logit is the cap: nothing to lose
                    name = f"{kind} {row_name} {option_name} {target_name}"
                    yield Case(name, kind, tuple(x.tolist()), target, given)


# To one thread, a few, a warp, a block; to two blocks, four and eight: by how many bytes they take.
CLASSES = (3, 7, 60, 127, 500, 2000, 8203, 16387, 32771)


def divided(dtype: str) -> Iterator[Case]:
    """Rows as a GPU divides them, their logits on no grid; gaps down to where numbers end."""

    def case(name: str, z: np.ndarray, y: int) -> Case:
        return Case(name, "cross_entropy", tuple(np.asarray(z, dtype).astype(float).tolist()), y)

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


def binary() -> Iterator[Case]:
    """The binary losses, the divergence and the entropy."""
    z = [0.0, 0.5, -0.5, 8.0, -8.0, 17.0, -17.0, 40.0, -40.0, 80.0, -80.0]
    for kind in ("binary_cross_entropy_with_logits", "sigmoid_focal_loss", "binary_cross_entropy"):
        options: list[dict[str, Any]] = [{}]
        if kind == "sigmoid_focal_loss":
            options += [{"gamma": 0.5, "alpha": 0.25}, {"gamma": 0.0}]
        else:
            options += [{"label_smoothing": 0.125}, {"sample_weight": 0.375}]
        for given in options:
            for t in (0.0, 1.0, 0.25):
                x = z
                if kind == "binary_cross_entropy":
                    x = [0.5, 2.0**-20, 1 - 2.0**-20, 0.25, 2.0**-100]
                for v in x:
                    yield Case(f"{kind} {v} {t} {given}", kind, (v,), (t,), given)
    for seed in (1, 2):
        x = grid(-abs(random(12, seed)) - 2.0**-10)
        yield Case(f"kl_div {seed}", "kl_div", tuple(x.tolist()), soft(12, seed))
        logs = grid(-abs(random(12, seed + 5)) - 2.0**-10)
        given = {"log_target": True}
        yield Case(f"kl_div log {seed}", "kl_div", tuple(x.tolist()), tuple(logs.tolist()), given)


@cache
def answer(case: Case) -> Any:
    """Return the oracle's row."""
    if case.kind == "kl_div":
        assert isinstance(case.target, tuple)
        return oracle.kl_row(case.x, case.target, **case.options)
    if isinstance(case.target, tuple) and len(case.target) == 1:
        return oracle.binary_row(case.kind, case.x[0], case.target[0], **case.options)
    return oracle.softmax_row(case.kind, case.x, case.target, **case.options)
