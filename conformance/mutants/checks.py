"""The options of cross-entropy, and what a call must refuse before any arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Options:
    """What xloss.cross_entropy takes beside logits and targets."""

    axis: int = -1
    weight: Any = None
    sample_weight: Any = None
    where: Any = None
    ignore_index: int | None = -100
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    softcap: float | None = None
    reduction: str = "mean"
    normalizer: Any = None
    validate: Any = "auto"


def check(logits: Any, targets: Any, o: Options) -> None:
    """Raise TypeError or ValueError, naming the argument, or return None."""
    for argument, error, holds in required(logits, targets, o):
        if not holds:
            raise error(f"{argument}: not as it must be")


def required(logits: Any, targets: Any, o: Options) -> Iterator[tuple[str, type[Exception], Any]]:
    """Yield what must hold, in an order in which each can be asked if those before it hold."""
    numbers, index = ("integer", "float"), kind(targets) == "integer"
    yield "logits", TypeError, kind(logits) == "float"
    yield "targets", TypeError, kind(targets) in numbers
    yield "axis", TypeError, is_number(o.axis, int)
    yield "axis", ValueError, -logits.ndim <= o.axis < logits.ndim
    axis, rows = o.axis % logits.ndim, list(logits.shape)
    classes = rows.pop(axis)
    yield "targets", ValueError, tuple(targets.shape) == tuple(rows if index else logits.shape)
    yield "logits", ValueError, classes
    yield "weight", ValueError, o.weight is None or np.shape(o.weight) == (classes,)
    yield "sample_weight", ValueError, broadcasts(o.sample_weight, rows)
    yield "where", ValueError, broadcasts(o.where, rows)
    yield "where", TypeError, o.where is None or o.where is True or kind(o.where) == "bool"
    yield "weight", TypeError, o.weight is None or kind(o.weight) in numbers
    yield "sample_weight", TypeError, o.sample_weight is None or kind(o.sample_weight) in numbers
    yield "ignore_index", TypeError, o.ignore_index is None or is_number(o.ignore_index, int)
    yield "ignore_index", ValueError, index or o.ignore_index is None or o.ignore_index < 0
    yield "label_smoothing", TypeError, is_number(o.label_smoothing)
    yield "label_smoothing", ValueError, 0 <= o.label_smoothing <= 1
    yield "z_loss", TypeError, is_number(o.z_loss)
    yield "z_loss", ValueError, 0 <= o.z_loss < np.inf
    yield "softcap", TypeError, o.softcap is None or is_number(o.softcap)
    yield "softcap", ValueError, o.softcap is None or 0 < o.softcap < np.inf
    yield "reduction", ValueError, o.reduction in ("mean", "sum", "none")
    if o.normalizer is not None:
        yield "normalizer", ValueError, o.reduction == "mean" and not np.ndim(o.normalizer)
        yield "normalizer", ValueError, o.normalizer >= 0
    yield "validate", ValueError, isinstance(o.validate, bool) or o.validate == "auto"
    if o.validate is True:
        yield "weight", ValueError, o.weight is None or (o.weight >= 0).all()
        yield "sample_weight", ValueError, o.sample_weight is None or (o.sample_weight >= 0).all()


def kind(array: Any) -> str:
    """Return "bool", "integer", "float" or another, of an array of NumPy; else ""."""
    dtype = getattr(array, "dtype", None)
    stem = getattr(dtype, "name", "").rstrip("0123456789")
    return {"int": "integer", "uint": "integer", "bfloat": "float"}.get(stem, stem)


def is_number(value: Any, expected: Any = int | float) -> bool:
    return isinstance(value, expected) and not isinstance(value, bool)


def broadcasts(given: Any, to: list[int]) -> bool:
    try:
        return given is None or np.broadcast_shapes(np.shape(given), tuple(to)) == tuple(to)
    except ValueError:
        return False
