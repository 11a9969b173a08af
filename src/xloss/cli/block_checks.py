"""Checks of the values of a row block; a message names the file, the row and what was meant."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .._arrays.inspect import FLOATS
from . import hints
from .inputs import Task
from .loss_choices import PROBABILITIES, LossChoice
from .output import fail
from .request import IGNORE_INDEX
from .worst_rows import row_name

Block = npt.NDArray[Any]
Rows = npt.NDArray[np.bool_]  # whether each row counts
Start = tuple[int, ...]  # where the rows of a block begin in their file


def _first(mask: npt.NDArray[np.bool_]) -> Start | None:
    """Return where the first marked entry stands, or None where there is none."""
    found = np.argwhere(mask)
    return tuple(map(int, found[0])) if len(found) else None


def class_last(block: Block, task: Task) -> Block:
    """Return a block with its class axis last; a binary loss's elements are rows of one number."""
    return block[..., None] if task.axis is None else np.moveaxis(block, task.axis, -1)


def _refuse(where: str, by_row: Block, bad: Block, task: Task, start: Start, expected: str) -> None:
    """Refuse the first bad number of a block whose class axis is the last."""
    if (at := _first(bad)) is not None:
        of_class = "" if task.axis is None else f", class {at[-1]}"
        fail(f"{where}: {by_row[at]} of row {row_name(at[:-1], start)}{of_class}: {expected}")


def checked_targets(targets: Block, task: Task, start: Start, ignore: int) -> Block:
    """Return a block's targets, labels as int64 and the ignored ones as -100; refuse bad ones."""
    if task.indexed and task.axis is not None:
        return _checked_labels(targets, task, start, ignore)
    by_row = class_last(targets, task)
    if task.axis is not None:
        bad, expected = (
            by_row < 0,
            "expected a probability; are these logits, or the files swapped?",
        )
    else:
        kind = "a target in [0, 1]" if targets.dtype.name in FLOATS else "0 or 1"
        bad, expected = (by_row < 0) | (by_row > 1), f"expected {kind}"
    _refuse(task.targets, by_row, bad, task, start, expected)
    return targets


def _checked_labels(labels: Block, task: Task, start: Start, ignore: int) -> Block:
    # In the file's own dtype: int64 does not hold every label that may be ignored.
    outside = ((labels < 0) | (labels >= task.classes)) & (labels != ignore)
    if (at := _first(outside)) is not None:
        bad = labels[at]
        hint = f"; did you mean --ignore-index {bad}?" if np.all(labels[outside] == bad) else ""
        hint = "; do the labels begin at 1? they begin at 0 here" if bad == task.classes else hint
        fail(
            f"{task.targets}: label {bad} of row {row_name(at, start)} is not in "
            f"[0, {task.classes}) and not the ignored {ignore}{hint}"
        )
    return np.where(labels == ignore, IGNORE_INDEX, labels.astype(np.int64))


def check_range(given: Block, counted: Rows, task: Task, start: Start, choice: LossChoice) -> None:
    """Refuse what is no probability, or its logarithm, in a row that counts.

    The loss would be NaN, or negative. A NaN passes: the loss says it.
    """
    by_row = class_last(given, task)
    slack = 0.0 if task.axis is None else hints.tolerance(given.dtype.name)
    low, high = (0, 1) if choice.reads == PROBABILITIES else (-np.inf, 0)
    outside = ((by_row < low) | (by_row > high + slack)) & counted[..., None]
    instead = "--loss binary_cross_entropy_with_logits" if task.axis is None else "no --loss"
    expected = f"{choice.name} expected {choice.reads}; are these logits? then give {instead}"
    _refuse(task.logits, by_row, outside, task, start, expected)


def check_weight(where: str, weight: Block) -> None:
    """Refuse a class weight that is negative, NaN or infinite: it makes no loss."""
    if (at := _first(~(weight >= 0) | np.isinf(weight))) is not None:
        fail(f"{where}: weight {weight[at]} of class {at[-1]}: expected 0 or a positive number")
