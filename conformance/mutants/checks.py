"""What a call of cross-entropy must refuse before any arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np


def check(
    logits: Any,
    targets: Any,
    *,
    axis: Any,
    weight: Any,
    sample_weight: Any,
    where: Any,
    ignore_index: Any,
    label_smoothing: Any,
    z_loss: Any,
    softcap: Any,
    reduction: Any,
    normalizer: Any,
    validate: Any,
    cotangent: Any = 1.0,
) -> None:
    """Raise TypeError or ValueError, naming the argument, or return None."""
    for name, array in (("logits", logits), ("targets", targets)):
        if not hasattr(array, "dtype"):
            raise TypeError(f"{name}: expected an array, got {type(array).__name__}")
    index = kind(targets) == "integer"
    if kind(logits) != "float":
        raise TypeError(f"logits: expected floats, got {logits.dtype}")
    if kind(targets) not in ("integer", "float"):
        raise TypeError(f"targets: expected integers or floats, got {targets.dtype}")
    number("axis", axis, int)
    if not -logits.ndim <= axis < logits.ndim:
        raise ValueError(f"axis: {axis} is not an axis of {logits.ndim} dimensions")
    rows = logits.shape[: axis % logits.ndim] + logits.shape[axis % logits.ndim + 1 :]
    if targets.shape != (rows if index else logits.shape):
        raise ValueError(f"targets: shape {targets.shape} beside logits of {logits.shape}")
    if not logits.shape[axis]:
        raise ValueError("logits: no class")
    if weight is not None and np.shape(weight) != (logits.shape[axis],):
        raise ValueError(f"weight: shape {np.shape(weight)}, expected one number a class")
    for name, given in (("sample_weight", sample_weight), ("where", where)):
        if given is not None and not broadcasts(np.shape(given), rows):
            raise ValueError(f"{name}: shape {np.shape(given)} does not broadcast to {rows}")
    if where is not None and not isinstance(where, bool) and kind(where) != "bool":
        raise TypeError("where: expected bool")
    for name, given in (("weight", weight), ("sample_weight", sample_weight)):
        if (
            given is not None
            and hasattr(given, "dtype")
            and kind(given) not in ("integer", "float")
        ):
            raise TypeError(f"{name}: expected numbers, got {given.dtype}")
    if ignore_index is not None:
        number("ignore_index", ignore_index, int)
        if not index and ignore_index >= 0:
            raise ValueError("ignore_index: unused with soft targets")
    number("label_smoothing", label_smoothing, int | float)
    number("z_loss", z_loss, int | float)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing: {label_smoothing} is not in [0, 1]")
    if not 0 <= z_loss < np.inf:
        raise ValueError(f"z_loss: {z_loss} is negative or not finite")
    if softcap is not None:
        number("softcap", softcap, int | float)
        if not 0 < softcap < np.inf:
            raise ValueError(f"softcap: {softcap} is not positive and finite")
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction: {reduction!r} is none of mean, sum, none")
    if normalizer is not None and (reduction != "mean" or np.ndim(normalizer)):
        raise ValueError("normalizer: a number, with reduction mean alone")
    if normalizer is not None and normalizer < 0:
        raise ValueError(f"normalizer: {normalizer} is negative")
    if not (isinstance(validate, bool) or validate == "auto"):
        raise ValueError(f"validate: {validate!r} is none of auto, True, False")
    if validate is True:
        for name, given in (("weight", weight), ("sample_weight", sample_weight)):
            if given is not None and bool((given < 0).any()):
                raise ValueError(f"{name}: negative")


def kind(array: Any) -> str:
    """Return "bool", "integer", "float" or another, of an array of NumPy or PyTorch."""
    name = getattr(array.dtype, "name", None) or str(array.dtype).removeprefix("torch.")
    stem = name.rstrip("0123456789")
    return {"int": "integer", "uint": "integer", "bfloat": "float"}.get(stem, stem)


def number(name: str, value: Any, expected: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, expected):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")


def broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, to) == to
    except ValueError:
        return False
