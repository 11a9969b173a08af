"""Checks of the values of a row block; a message names the file, the row and what was meant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .._arrays.inspect import FLOATS
from . import hints
from .inputs import Task
from .loss_choices import LOG_PROBABILITIES, PROBABILITIES, SCORES, LossChoice
from .output import fail
from .request import IGNORE_INDEX
from .worst_rows import row_name

Block = npt.NDArray[Any]
Rows = npt.NDArray[np.bool_]  # whether each row counts
Start = tuple[int, ...]
SAMPLE_ROWS = 8  # of a block, enough to tell probabilities from logits


@dataclass(frozen=True, slots=True)
class BlockPlace:
    """Where a row block stands: the task that it is part of, and its first row in the whole."""

    task: Task
    start: Start

    def of_logits(self, at: Any) -> str:
        """Name a row of the logits' file, and its place in the whole where that is another."""
        return self._named(at, self.start, self.task.first)

    def of_targets(self, at: Any) -> str:
        """Name a row of the targets' file, and its place in the whole where that is another."""
        start = self.start
        if self.task.shift:
            start = (*start[:-1], start[-1] + self.task.shift)
        return self._named(at, start, self.task.first - self.task.skip)

    @staticmethod
    def _named(at: Any, start: Start, before: int) -> str:
        row = row_name(at, start)
        if not before:
            return str(row)
        moved = [p - (0 if i else before) for i, p in enumerate(start)]
        return f"{row_name(at, tuple(moved))} ({row} of the whole)"


def _first(mask: npt.NDArray[np.bool_]) -> Start | None:
    """Return where the first marked entry stands, or None where there is none."""
    found = np.argwhere(mask)
    return tuple(map(int, found[0])) if len(found) else None


def class_last(block: Block, task: Task) -> Block:
    """Return a block with its class axis last; a binary loss's elements are rows of one number."""
    return block[..., None] if task.axis is None else np.moveaxis(block, task.axis, -1)


def check_labels(labels: Block, place: BlockPlace, ignore: int) -> Block:
    """Return labels as int64, the ignored ones as -100, and refuse bad ones.

    All is tested in the file's own dtype: int64 does not hold every label that may be ignored.
    """
    classes = place.task.classes
    outside = ((labels < 0) | (labels >= classes)) & (labels != ignore)
    if (at := _first(outside)) is not None:
        hint = hints.of_labels(labels[outside], labels[labels != ignore], classes)
        fail(
            f"{place.task.targets}: label {labels[at]} of row {place.of_targets(at)} is not "
            f"in [0, {classes}) and not the ignored {ignore}{hint}"
        )
    return np.where(labels == ignore, IGNORE_INDEX, labels.astype(np.int64))


def check_soft(targets: Block, place: BlockPlace) -> dict[str, str]:
    """Refuse targets that are no probabilities; return a hint where a row does not sum to 1."""
    task = place.task
    by_row = class_last(targets, task)
    if (at := _first(by_row < 0)) is not None:
        fail(
            f"{task.targets}: {by_row[at]} of row {place.of_targets(at[:-1])}, class "
            f"{at[-1]}: a probability is not negative; are these logits, or the two files swapped?"
        )
    total = hints.sums(by_row)
    off = hints.off_1(total, targets.dtype.name) & (total != 0)  # a row of zeros is left out
    if (at := _first(off)) is None:
        return {}
    return {
        task.targets: f"{task.targets}: row {place.of_targets(at)} sums to {total[at]:.6g}: "
        "are these probabilities?"
    }


def check_elements(targets: Block, place: BlockPlace) -> None:
    """Refuse a target of a binary loss that is not in [0, 1], or, of integers, not 0 or 1."""
    if targets.dtype == bool:
        return
    if (at := _first((targets < 0) | (targets > 1))) is None:
        return
    value, name = targets[at], place.task.targets
    if targets.dtype.name in FLOATS:
        fail(f"{name}: {value} of row {place.of_targets(at)}: expected a target in [0, 1]")
    signs = bool(np.all(np.abs(targets) == 1))
    hint = "; labels of -1 and 1? save (y + 1) // 2" if signs else ""
    fail(f"{name}: label {value} of row {place.of_targets(at)} is neither 0 nor 1{hint}")


def check_probabilities(given: Block, counted: Rows, place: BlockPlace, choice: LossChoice) -> None:
    """Refuse a number outside [0, 1] in a row that counts: its loss would be NaN or negative.

    A NaN passes, since the findings name it.
    """
    task = place.task
    by_row = class_last(given, task)
    slack = 0.0 if task.axis is None else hints.tolerance(given.dtype.name)
    outside = ((by_row < 0) | (by_row > 1 + slack)) & counted[..., None]
    if (at := _first(outside)) is not None:
        where = "" if task.axis is None else f", class {at[-1]}"
        instead = "--loss binary_cross_entropy_with_logits" if task.axis is None else "no --loss"
        fail(
            f"{task.logits}: {by_row[at]} of row {place.of_logits(at[:-1])}{where}: "
            f"{choice.name} expected probabilities; are these logits? then give {instead}"
        )


def hint_of_sums(
    given: Block, counted: Rows, place: BlockPlace, choice: LossChoice
) -> dict[str, str]:
    """Return a hint if the first few rows that count are of another kind than the loss reads."""
    task = place.task
    places = np.argwhere(counted)[:SAMPLE_ROWS]
    if task.axis is None or not len(places):
        return {}
    # In float64: in a float16 the probabilities of a large vocabulary would be rounded.
    name, some = task.logits, class_last(given, task)[tuple(places.T)].astype(np.float64)
    with np.errstate(all="ignore"):
        total = hints.sums(np.exp(some) if choice.reads == LOG_PROBABILITIES else some)
    off = hints.off_1(total, given.dtype.name)
    if choice.reads == SCORES:
        at_the_start = not any(place.start)
        if at_the_start and not off.any() and np.all(some >= 0) and np.any(some % 1):
            return {
                name: f"{name}: the first rows are of numbers from 0 to 1 that sum to 1: are these "
                "probabilities? Logits are expected; the loss of probabilities is --loss log_loss"
            }
        return {}
    if (first := _first(off)) is None:
        return {}
    what = "sums to" if choice.reads == PROBABILITIES else "has probabilities that sum to"
    return {
        name: f"{name}: row {place.of_logits(places[first])} {what} {total[first]:.6g} and not to "
        f"1: are these {choice.reads}? Logits need no --loss"
    }


def check_weight(where: str, weight: Block) -> None:
    """Refuse a class weight that is negative, NaN or infinite: it makes no loss."""
    if (at := _first(~(weight >= 0) | np.isinf(weight))) is not None:
        place = row_name(at, (0,) * len(at))
        fail(f"{where}: weight {weight[at]} of class {place}: expected 0 or a positive number")
