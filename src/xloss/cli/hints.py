"""What the user probably meant, said after what is wrong with the files."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from .._arrays.inspect import FLOATS, INTEGERS
from .array_files import open_array

Values = npt.NDArray[Any]
Shape = tuple[int, ...]
SAMPLE_VALUES = 2**16  # of a file, enough to tell whether it holds whole numbers
# How far from 1 the rounded probabilities of a row may sum.
TOLERANCE = {"float16": 4e-3, "bfloat16": 3e-2}
USUAL_TOLERANCE = 1e-4


def tolerance(dtype: str) -> float:
    """Return how far from 1 the sum of a row of probabilities of this dtype may be."""
    return TOLERANCE.get(dtype, USUAL_TOLERANCE)


def of_shapes(logits: Shape, targets: Shape, dtype: str, where: str, axis: int) -> str:
    """Return a hint for targets whose shape or dtype does not fit the logits."""
    rows = logits[:axis] + logits[axis + 1 :]
    if dtype in INTEGERS:
        if targets == logits:
            return (
                "; one-hot labels? save them as class indices, "
                f"y.argmax({axis}), or as probabilities, y.astype(np.float32)"
            )
        fits = [i for i in range(len(logits)) if logits[:i] + logits[i + 1 :] == targets]
        if fits:
            return f"; did you mean --axis {fits[0]}?"
    elif any(targets[:i] + targets[i + 1 :] == logits for i in range(len(targets))):
        return "; are the two files swapped?"
    if where.lower().endswith(".csv") and len(targets) == 2 and targets[:1] == rows:
        return f"; pick the column of the labels by {where}::NAME"
    if not _as_rows(targets, rows):
        return ""
    fitting = "" if targets == rows else f".reshape({rows})"
    if dtype in INTEGERS:
        return f"; drop the axis of length 1: save y{fitting}"
    if dtype == "bool" or _whole(where):
        said = "" if dtype == "bool" else "; its values are whole"
        return f"{said}; labels are integers: save y{fitting}.astype(np.int64)"
    return ""


def of_logits(logits: Shape, targets: Shape, targets_dtype: str) -> str:
    """Return a hint for logits that are no floating array."""
    if targets_dtype in FLOATS and len(targets) == len(logits) + 1:
        return "; are the two files swapped?"
    return ""


def of_labels(bad: Values, labels: Values, classes: int) -> str:
    """Return a hint for labels that are no classes."""
    first = int(bad[0])
    if classes == 1 and np.all((labels == 0) | (labels == 1)):
        return "; one logit a row? that is --loss binary_cross_entropy_with_logits"
    if first == classes and np.all((labels >= 1) & (labels <= classes)):
        return "; do the labels begin at 1? they begin at 0 here"
    return f"; did you mean --ignore-index {first}?" if np.all(bad == first) else ""


def sums(by_row: Values) -> npt.NDArray[np.float64]:
    """Return the sum of each row."""
    with np.errstate(all="ignore"):
        total: npt.NDArray[np.float64] = by_row.astype(np.float64).sum(-1)
    return total


def off_1(total: npt.NDArray[np.float64], dtype: str) -> npt.NDArray[np.bool_]:
    """Mark the sums that rounded probabilities cannot have; a NaN is left to the findings."""
    marked: npt.NDArray[np.bool_] = np.asarray(abs(total - 1) > tolerance(dtype))
    return marked


def _as_rows(shape: Shape, rows: Shape) -> bool:
    """Whether a shape is that of the rows, but for axes of length 1."""
    return tuple(n for n in shape if n != 1) == tuple(n for n in rows if n != 1)


def _whole(where: str) -> bool:
    """Whether the first values of a file are whole numbers."""
    source = open_array(where)
    size, *inner = source.shape or (1,)
    some = slice(0, min(size, max(1, SAMPLE_VALUES // max(1, prod(inner)))))
    first = source.read((some, *(slice(0, n) for n in inner)) if source.shape else ())
    return first.size > 0 and bool(np.all(first == np.rint(first)))
