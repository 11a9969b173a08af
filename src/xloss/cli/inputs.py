"""The two arrays of `xloss eval`: each in one file, or in a folder of .npy shards."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from .._arrays.inspect import FLOATS, INTEGERS
from . import hints
from .array_files import open_array
from .output import fail
from .request import Request

Index = tuple[slice, ...]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Array:
    """An array in a file, or what the shards of a folder are together."""

    where: str
    shape: Shape
    dtype: str

    def __str__(self) -> str:
        return f"{self.dtype} of shape {self.shape}"


@dataclass(frozen=True, slots=True)
class Task:
    """Some rows of one file of logits, and where their targets are."""

    logits: str
    targets: str
    shape: Shape  # of the logits in the file
    axis: int | None  # the class axis, counted from the front; None: the loss has none
    indexed: bool  # the targets have no class axis: class indices, or a binary loss's targets
    first: int  # where row 0 of the file stands in the whole, along the first row axis
    skip: int  # where it stands in the targets' file
    shift: int = 0  # 1: the target of a row is that of the next position along the last row axis
    column: bool = False  # the targets' file has one more axis, the last one, of length 1
    rows: Index = ()  # a slice of each row axis of the file, with a start and a stop

    @property
    def classes(self) -> int:
        """The number of classes; 1 where the loss has no class axis."""
        return 1 if self.axis is None else self.shape[self.axis]

    @property
    def row_shape(self) -> Shape:
        """The shape of the file's rows: without the class axis, and without unjudged ends."""
        rows = rows_of(self.shape, self.axis)
        # The last position of a sequence has no next one that its logits could be judged with.
        return (*rows[:-1], max(0, rows[-1] - 1)) if self.shift else rows

    def with_classes(self, rows: Index) -> Index:
        """Return the slices of some rows in an array that has the class axis."""
        axis = self.axis
        return rows if axis is None else (*rows[:axis], slice(0, self.classes), *rows[axis:])

    def blocks(self, limit: int) -> Iterator[tuple[Index, Index]]:
        """Cut the task into row blocks: where their rows stand in the two files."""
        for block in row_blocks(tuple(s.stop - s.start for s in self.rows), limit):
            rows = [_moved(s, of_task.start) for s, of_task in zip(block, self.rows, strict=True)]
            there = list(rows)
            for axis, ahead in ((0, self.skip), (-1, self.shift)):
                if ahead:
                    there[axis] = _moved(there[axis], ahead)
            yield tuple(rows), tuple(there)


def open_inputs(request: Request) -> tuple[Array, list[Task]]:
    """Return the whole of the logits, and the rows of each file; refuse targets that do not fit."""
    (whole, shards), (total, parts) = _opened(request.logits), _opened(request.targets)
    folder, paired = os.path.isdir(request.logits), os.path.isdir(request.targets)
    if paired and not folder:
        fail(f"{request.targets}: is a folder of shards, and {request.logits} is a file")
    axis = _class_axis(whole, request, total)
    if folder and axis == 0:
        fail(f"{request.logits}: shards are joined along axis 0: it cannot be the class axis")
    if request.shift:
        _must_be_sequences(whole, total)
    labels = _paired(request, shards, parts) if paired else [total] * len(shards)
    found, first = [], 0
    for shard, of_shard in zip(shards, labels, strict=True):
        found.append(
            Task(
                logits=shard.where,
                targets=of_shard.where,
                shape=shard.shape,
                axis=axis,
                indexed=axis is None or of_shard.dtype in INTEGERS,
                first=first,
                skip=0 if paired else first,
                shift=int(request.shift),
                column=_is_column(shard if paired else whole, of_shard, axis, request),
            )
        )
        first += shard.shape[0] if folder else 0
    return whole, found


def tasks_of(shards: list[Task], limit: int) -> Iterator[Task]:
    """Cut the shards, in order, into tasks of at most `limit` logits, or of one row."""
    for shard in shards:
        for index in row_blocks(shard.row_shape, max(1, limit // shard.classes)):
            yield replace(shard, rows=index)


def row_blocks(rows: Shape, limit: int) -> Iterator[Index]:
    """Cut the row shape, in order, into row blocks of at most `limit` rows."""
    axis, inner = len(rows), 1
    while axis and inner * rows[axis - 1] <= limit:
        axis -= 1
        inner *= rows[axis]
    if axis == 0 or 0 in rows:  # a block without rows too: the options are checked with it
        yield tuple(slice(0, n) for n in rows)
        return
    step = max(1, limit // inner)
    rest = tuple(slice(0, n) for n in rows[axis:])
    for head in product(*map(range, rows[: axis - 1])):
        for start in range(0, rows[axis - 1], step):
            stop = min(start + step, rows[axis - 1])
            yield (*(slice(i, i + 1) for i in head), slice(start, stop), *rest)


def rows_of(shape: Shape, axis: int | None) -> Shape:
    """Return a shape without the class axis."""
    return shape if axis is None else shape[:axis] + shape[axis + 1 :]


def _moved(part: slice, by: int) -> slice:
    return slice(part.start + by, part.stop + by)


def _array(where: str) -> Array:
    # Opened again when it is read: a folder may hold more shards than a process may open files.
    source = open_array(where)
    return Array(where, source.shape, source.dtype)


def _opened(where: str) -> tuple[Array, list[Array]]:
    """Return a file's array and itself; of a folder what its shards are together, and the shards.

    The shards are in the natural order of their names, and fit each other.
    """
    if not os.path.isdir(where):
        array = _array(where)
        return array, [array]
    names = [n for n in os.listdir(where) if n.lower().endswith(".npy") and not n.startswith(".")]
    if not names:
        fail(f"{where}: is a folder without a .npy file")
    shards = [_array(os.path.join(where, name)) for name in sorted(names, key=_natural)]
    like = shards[0]
    for shard in shards:
        if shard.dtype != like.dtype or not shard.shape or shard.shape[1:] != like.shape[1:]:
            expected = ", ".join([f"{like.dtype} of shape (*", *map(str, like.shape[1:])])
            fail(f"{shard.where}: expected {expected}), as {like.where} is, got {shard}")
    rows = sum(shard.shape[0] for shard in shards)
    return Array(where, (rows, *like.shape[1:]), like.dtype), shards


def _natural(name: str) -> tuple[list[str | int], str]:
    """Order numbers within names as numbers: shard-2 before shard-10."""
    parts: list[str | int] = list(re.split(r"([0-9]+)", name))
    parts[1::2] = map(int, parts[1::2])
    return parts, name


def _paired(request: Request, shards: list[Array], targets: list[Array]) -> list[Array]:
    """Return the targets of each shard of logits: those in the file of the same name."""
    named = {os.path.basename(t.where): t for t in targets}
    names = [os.path.basename(s.where) for s in shards]
    if odd := named.keys() ^ set(names):
        fail(f"{request.targets}: has other files than {request.logits}: {min(odd)} is in only one")
    return [named[name] for name in names]


def _class_axis(logits: Array, request: Request, targets: Array) -> int | None:
    """Return the class axis counted from the front, or None for a loss that has none."""
    shape, reads = logits.shape, request.choice.reads
    if logits.dtype not in FLOATS:
        hint = hints.SWAPPED if targets.dtype in FLOATS else ""
        fail(f"{logits.where}: expected floating {reads}, got {logits}{hint}")
    if not request.choice.has_classes:
        return None
    axis = -1 if request.axis is None else request.axis
    if not -len(shape) <= axis < len(shape):
        fail(f"{logits.where}: has no axis {axis}: its shape is {shape}")
    axis %= len(shape)
    if shape[axis] == 0:
        fail(f"{logits.where}: expected at least one class, got shape {shape}, class axis {axis}")
    return axis


def _must_be_sequences(logits: Array, targets: Array) -> None:
    """Refuse what cannot be shifted within each sequence."""
    if len(logits.shape) < 3:
        fail(
            f"--shift: expected {logits.where} of shape (batch, time, classes), got "
            f"{logits.shape}: where one sequence ends and the next begins cannot be seen; save a "
            "single sequence as x[None], labels too"
        )
    if targets.dtype not in INTEGERS:
        fail(
            f"--shift: expected integer labels in {targets.where}, got {targets}: probabilities "
            "at a position are already those of the next token"
        )


def _is_column(logits: Array, targets: Array, axis: int | None, request: Request) -> bool:
    """Tell whether the targets have a last axis of length 1 more; refuse those that do not fit.

    (N, 1) is how Keras and pandas keep labels.
    """
    shape, dtype, choice = logits.shape, targets.dtype, request.choice
    rows = rows_of(shape, axis)
    if axis is None:
        fits, hint = dtype in FLOATS or dtype in INTEGERS or dtype == "bool", ""
        expected = f"one target for each element, shape {rows}"
    else:
        if dtype in FLOATS and targets.shape == shape:
            return False
        fits = dtype in INTEGERS and choice.takes_labels
        hint = hints.of_shapes(shape, targets.shape, dtype, axis) if choice.takes_labels else ""
        labels = f"integer labels of shape {rows}, or " if choice.takes_labels else ""
        expected = f"{labels}probabilities of the logits' shape {shape}"
        if targets.where.endswith(".csv") and len(targets.shape) == 2 and targets.shape != shape:
            hint = f"; pick one column by {targets.where}::NAME"
    if not fits or targets.shape not in (rows, (*rows, 1)):
        fail(f"{targets.where}: {request.loss} expected {expected}; got {targets}{hint}")
    return targets.shape != rows
