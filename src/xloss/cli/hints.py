"""What the user probably meant, said after what is wrong with the files."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from .._arrays.inspect import FLOATS, INTEGERS
from .files import open_array

Values = npt.NDArray[Any]
Shape = tuple[int, ...]
LOOKED_AT = 2**16  # values that show what a file holds
ROWS = 8  # that show that a block holds no probabilities
NEAR = {"float16": 4e-3, "bfloat16": 3e-2}  # a sum of probabilities to 1, else NEARER
NEARER = 1e-4


def of_shapes(logits: Shape, targets: Shape, dtype: str, where: str, axis: int) -> str:
    """Return a hint for targets that do not fit the logits."""
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
    if first == classes and np.all((labels >= 1) & (labels <= classes)):
        return "; do the labels begin at 1? they begin at 0 here"
    return f"; did you mean --ignore-index {first}?" if np.all(bad == first) else ""


def are_probabilities(block: Values, axis: int, counted: npt.NDArray[np.bool_]) -> bool | None:
    """Whether every row is of probabilities, and not all of them 0 or 1; None: no row counts."""
    by_row, near = np.moveaxis(block, axis, -1), NEAR.get(block.dtype.name, NEARER)
    places = np.argwhere(counted)
    if not len(places) or block.shape[axis] < 2:
        return None
    for at in (places[:ROWS], places):  # nearly always the first few tell that they are none
        some = by_row[tuple(at.T)]
        if not (np.all(some >= 0) and np.all(abs(_sum(some, -1) - 1) <= near)):
            return False
    return bool(np.any(some % 1))


def not_one(targets: Values, axis: int) -> npt.NDArray[np.bool_]:
    """Mark the rows of soft targets that do not sum to 1; one of zeros has been left out."""
    total = _sum(targets, axis)
    off = abs(total - 1) > NEAR.get(targets.dtype.name, NEARER)
    marked: npt.NDArray[np.bool_] = np.asarray(off & (total != 0))
    return marked


def _sum(block: Values, axis: int) -> npt.NDArray[np.float64]:
    with np.errstate(all="ignore"):
        total: npt.NDArray[np.float64] = block.astype(np.float64).sum(axis)
    return total


def _as_rows(shape: Shape, rows: Shape) -> bool:
    """Whether a shape is that of the rows, but for axes of length 1."""
    return tuple(n for n in shape if n != 1) == tuple(n for n in rows if n != 1)


def _whole(where: str) -> bool:
    """Whether the first values of a file are whole numbers."""
    source = open_array(where)
    size, *inner = source.shape or (1,)
    some = slice(0, min(size, max(1, LOOKED_AT // max(1, prod(inner)))))
    first = source.read((some, *(slice(0, n) for n in inner)) if source.shape else ())
    return first.size > 0 and bool(np.all(first == np.rint(first)))
