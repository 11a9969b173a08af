"""What the user probably meant, said after what is wrong with the files."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .._arrays.inspect import INTEGERS

Values = npt.NDArray[Any]
Shape = tuple[int, ...]
# How far from 1 the rounded probabilities of a row may sum.
TOLERANCE = {"float16": 4e-3, "bfloat16": 3e-2}
USUAL_TOLERANCE = 1e-4
SWAPPED = "; are the two files swapped?"


def tolerance(dtype: str) -> float:
    """Return how far from 1 the sum of a row of probabilities of this dtype may be."""
    return TOLERANCE.get(dtype, USUAL_TOLERANCE)


def of_shapes(logits: Shape, targets: Shape, dtype: str, axis: int) -> str:
    """Return a hint for targets whose shape or dtype does not fit the logits."""
    rows = logits[:axis] + logits[axis + 1 :]
    if dtype in INTEGERS:
        if targets == logits:
            return (
                "; one-hot labels? save them as class indices, "
                f"y.argmax({axis}), or as probabilities, y.astype(np.float32)"
            )
        fits = [i for i in range(len(logits)) if logits[:i] + logits[i + 1 :] == targets]
        return f"; did you mean --axis {fits[0]}?" if fits else ""
    if len(targets) == len(logits) + 1:
        return SWAPPED
    if targets in (rows, (*rows, 1)):
        return "; if these are labels, save y.astype(np.int64)"
    return ""


def of_values(logits: Values, where: str) -> str:
    """Return a hint if the logits of a few rows, (rows, classes), look like probabilities."""
    # In float64: in a float16 the sum over a large vocabulary would be rounded.
    some = logits.astype(np.float64)
    with np.errstate(all="ignore"):
        off = abs(some.sum(-1) - 1) > tolerance(logits.dtype.name)
        if len(some) and not off.any() and np.all(some >= 0) and np.any(some % 1):
            return (
                f"{where}: the first rows are of numbers from 0 to 1 that sum to 1: are these "
                "probabilities? Logits are expected; the loss of probabilities is --loss log_loss"
            )
    return ""
