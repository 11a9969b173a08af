"""Checks of targets that name a few classes of each row."""

from __future__ import annotations

from typing import Any

from .._arrays.context import Context
from .._arrays.host_data import fitted
from .._arrays.inspect import FLOATS, INTEGERS, Array, dtype_name, spread
from . import _check as check
from ._lengths import is_empty, same_shape
from .top_k import TopKTargets

RESTS = ("zero", "uniform")
INDICES = "an integer array of class indices, of shape (*rows, K)"
PROBABILITIES = "a floating array of the shape of the indices"
WRITTEN_OUT = "soft targets of all classes"


def refuse(targets: Any, name: str, instead: str) -> None:
    """Raise for a record that a loss does not take."""
    if isinstance(targets, TopKTargets):
        raise TypeError(f"targets: {name} takes no TopKTargets; pass {instead}")


def checked(
    x: Any, targets: TopKTargets, axis: int, ignore: Any, cx: Context, first: str
) -> tuple[Array, Array, Any]:
    """Return indices and probabilities with the slots last, and the ignored index.

    x has the shape of the logits.
    """
    rest: Any = targets.rest
    if not isinstance(rest, str) or rest not in RESTS:
        raise ValueError(f"targets: rest: expected one of {RESTS}, got {targets.rest!r}")
    given, ignore = fitted(targets.indices, ignore, cx)
    indices = check.beside("targets: indices", given, cx, first, INDICES)
    if dtype_name(indices.dtype) not in INTEGERS:
        got = check.described(targets.indices)
        raise TypeError(f"targets: indices: expected {INDICES}, got {got}")
    probs = check.beside("targets: probabilities", targets.probabilities, cx, first, PROBABILITIES)
    if dtype_name(probs.dtype) not in FLOATS:
        got = check.described(targets.probabilities)
        raise TypeError(f"targets: probabilities: expected {PROBABILITIES}, got {got}")
    if spread(indices) or spread(probs):
        raise TypeError("targets: TopKTargets of DTensors are not taken; pass each rank's own rows")
    shape = tuple(indices.shape)
    n = len(x.shape)
    rows = tuple(s for i, s in enumerate(x.shape) if i != n + axis)
    own = tuple(s for i, s in enumerate(shape) if i != n + axis)
    if len(shape) != n or not same_shape(own, rows):
        raise ValueError(
            f"targets: indices: expected the shape of {first}, {tuple(x.shape)}, with K in place "
            f"of the classes; got {shape}"
        )
    if not same_shape(tuple(probs.shape), shape):
        raise ValueError(
            f"targets: probabilities: expected the shape of the indices, {shape}; "
            f"got {tuple(probs.shape)}"
        )
    slots = shape[axis]
    if slots != slots or slots is None:
        raise ValueError("targets: indices: the axis of the K classes must have a known length")
    if is_empty(slots):
        raise ValueError(f"targets: indices: expected at least one class a row, got shape {shape}")
    return check.move_last(indices, axis, cx), check.move_last(probs, axis, cx), ignore
