"""The two arrays of `xloss eval`: each in one file, or in a folder of .npy shards."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from .._arrays.inspect import FLOATS, INTEGERS
from . import hints
from .array_files import PICKLES, FileProblem, open_array, refuse_pickle
from .loss_choices import LossChoice
from .output import fail
from .request import Request

Index = tuple[slice, ...]
Shape = tuple[int, ...]
NOT_SHARDS = (".npz", ".safetensors")  # beside .npy files it would be unclear which are meant


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
    """Some rows of one file of logits, and where their targets are.

    All fields are plain values, so that a task can be sent to another process.
    """

    logits: str
    targets: str
    shape: Shape  # of the logits in the file
    dtype: str
    axis: int | None  # the class axis, counted from the front; None: the loss has none
    indexed: bool  # the targets have no class axis: class indices, or a binary loss's targets
    first: int  # where row 0 of the file stands in the whole, along the first row axis
    skip: int  # where it stands in the targets' file
    shift: int = 0  # 1: the target of a row is that of the next position along the last row axis
    extra_axis: int | None = None  # an axis of length 1 that only the targets' file has
    lacks_axis: bool = False  # the targets' file lacks the last axis of the logits, of length 1
    rows: tuple[tuple[int, int], ...] = ()  # start and stop along each row axis of the file

    @property
    def classes(self) -> int:
        """The number of classes; 1 where the loss has no class axis."""
        return 1 if self.axis is None else self.shape[self.axis]


@dataclass(frozen=True, slots=True)
class Inputs:
    """All the logits, and the files that they are in; the targets fit them."""

    shape: Shape
    dtype: str
    axis: int | None
    shift: int
    shards: tuple[Task, ...]  # all the rows of each file

    @property
    def rows(self) -> Shape:
        """The shape of the rows."""
        return row_shape(self.shape, self.axis, self.shift)

    def tasks(self, limit: int) -> Iterator[Task]:
        """Cut the shards, in order, into tasks of at most `limit` logits, or of one row."""
        for shard in self.shards:
            rows = row_shape(shard.shape, self.axis, self.shift)
            for index in row_blocks(rows, max(1, limit // shard.classes)):
                yield replace(shard, rows=tuple((s.start, s.stop) for s in index))


def open_inputs(request: Request) -> Inputs:
    """Read the shapes of logits and targets, and refuse those that do not fit each other."""
    logits, targets = _shards(request.logits), _shards(request.targets)
    folder = logits is not None
    if targets is not None and logits is None:
        fail(f"{request.targets}: is a folder of shards, and {request.logits} is a file")
    shards = [_array(request.logits)] if logits is None else logits
    whole = _joined(request.logits, shards) if folder else shards[0]
    total = _array(request.targets) if targets is None else _joined(request.targets, targets)
    axis = _class_axis(whole, request, total)
    if folder and axis == 0:
        fail(f"{request.logits}: shards are joined along axis 0: it cannot be the class axis")
    if request.shift:
        _must_be_sequences(whole, total, axis)
    if targets is None:
        fit = _fit(whole, total, axis, request.choice)
        fits = [(total, fit)] * len(shards)
    else:
        pairs = zip(shards, _paired(request, shards, targets), strict=True)
        fits = [(labels, _fit(shard, labels, axis, request.choice)) for shard, labels in pairs]
    found, first = [], 0
    for shard, (labels, fit) in zip(shards, fits, strict=True):
        found.append(
            Task(
                logits=shard.where,
                targets=labels.where,
                shape=shard.shape,
                dtype=shard.dtype,
                axis=axis,
                indexed=axis is None or labels.dtype in INTEGERS,
                first=first,
                skip=first if targets is None else 0,
                shift=int(request.shift),
                **fit,
            )
        )
        first += shard.shape[0] if folder else 0
    return Inputs(whole.shape, whole.dtype, axis, int(request.shift), tuple(found))


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


def row_shape(shape: Shape, axis: int | None, shift: int) -> Shape:
    """Return the shape of the rows of logits: without the class axis, and without unjudged ends."""
    rows = shape if axis is None else shape[:axis] + shape[axis + 1 :]
    # The last position of a sequence has no next one that its logits could be judged with.
    return (*rows[:-1], max(0, rows[-1] - 1)) if shift else rows


def _array(where: str) -> Array:
    # Opened again when it is read: a folder may hold more shards than a process may open files.
    source = open_array(where)
    return Array(where, source.shape, source.dtype)


def _shards(where: str) -> list[Array] | None:
    """Return the shards of a folder in the natural order of their names, or None for a file."""
    if not os.path.isdir(where):
        return None
    try:
        names = [name for name in os.listdir(where) if not name.startswith(".")]
    except OSError as error:
        raise FileProblem(f"{where}: {error.strerror or error}") from None
    if other := sorted(n for n in names if n.lower().endswith(NOT_SHARDS)):
        fail(f"{where}: expected shards in .npy files alone, got {other[0]} too")
    shards = sorted((n for n in names if n.lower().endswith(".npy")), key=_natural)
    if not shards:
        for name in sorted(n for n in names if Path(n).suffix.lower() in PICKLES):
            refuse_pickle(os.path.join(where, name))
        fail(f"{where}: is a folder without a .npy file")
    return [_array(os.path.join(where, name)) for name in shards]


def _natural(name: str) -> tuple[list[str | int], str]:
    """Order numbers within names as numbers: shard-2 before shard-10."""
    parts: list[str | int] = list(re.split(r"([0-9]+)", name))
    parts[1::2] = map(int, parts[1::2])
    return parts, name


def _joined(where: str, shards: Sequence[Array]) -> Array:
    """Return what the shards are together, and refuse those that cannot be joined."""
    like = shards[0]
    for shard in shards:
        if shard.dtype != like.dtype:
            fail(f"{shard.where}: expected {like.dtype}, as {like.where} is, got {shard}")
        if not shard.shape or shard.shape[1:] != like.shape[1:]:
            expected = ", ".join(["*", *map(str, like.shape[1:])])
            fail(f"{shard.where}: expected shape ({expected}), as {like.where} has, got {shard}")
    return Array(where, (sum(s.shape[0] for s in shards), *like.shape[1:]), like.dtype)


def _paired(request: Request, shards: list[Array], targets: list[Array]) -> list[Array]:
    """Return the targets of each shard of logits: those in the file of the same name."""
    named = {os.path.basename(t.where): t for t in targets}
    names = [os.path.basename(s.where) for s in shards]
    for name in names:
        if name not in named:
            fail(f"{request.targets}: holds no {name}, which {request.logits} does")
    if more := named.keys() - set(names):
        fail(f"{request.targets}: holds {min(more)}, and {request.logits} does not")
    return [named[name] for name in names]


def _class_axis(logits: Array, request: Request, targets: Array) -> int | None:
    """Return the class axis counted from the front, or None for a loss that has none."""
    shape, reads = logits.shape, request.choice.reads
    if logits.dtype not in FLOATS:
        hint = hints.of_logits(shape, targets.shape, targets.dtype)
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


def _must_be_sequences(logits: Array, targets: Array, axis: int | None) -> None:
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


def _fit(logits: Array, targets: Array, axis: int | None, choice: LossChoice) -> dict[str, Any]:
    """Return the fields of a task that say by which axes of length 1 the targets' file differs.

    What are not targets of these logits is refused.
    """
    shape, dtype = logits.shape, targets.dtype
    rows = row_shape(shape, axis, 0)
    if axis is None:
        return _fit_elements(logits, targets)
    if dtype in INTEGERS and choice.takes_labels:
        # (N, 1) is how Keras and pandas keep labels; (N, 1, H, W) how masks of images are kept.
        for at in (axis, len(rows)):
            if targets.shape == (*rows[:at], 1, *rows[at:]):
                return {"extra_axis": at}
        if targets.shape == rows:
            return {}
    elif dtype in FLOATS and targets.shape == shape:
        return {}
    hint = hints.of_shapes(shape, targets.shape, dtype, targets.where, axis)
    if not choice.takes_labels:
        fail(
            f"{targets.where}: {choice.name} expected probabilities of the logits' shape {shape}; "
            f"got {targets}"
        )
    if dtype in INTEGERS:
        fail(
            f"{targets.where}: expected labels of shape {rows}, that of the logits {shape} without "
            f"the class axis {axis}; got {targets}{hint}"
        )
    fail(
        f"{targets.where}: expected integer labels, or probabilities of the logits' shape "
        f"{shape}; got {targets}{hint}"
    )


def _fit_elements(logits: Array, targets: Array) -> dict[str, Any]:
    """Fit the targets of a binary loss, one for each element."""
    shape = logits.shape
    if targets.dtype in FLOATS or targets.dtype in INTEGERS or targets.dtype == "bool":
        if targets.shape == shape:
            return {}
        if targets.shape == (*shape, 1):
            return {"extra_axis": len(shape)}
        if (*targets.shape, 1) == shape:
            return {"lacks_axis": True}
    hint = ""
    if targets.dtype in INTEGERS and targets.shape == shape[:-1]:
        hint = "; one class index for each row? then leave --loss out, or take --loss log_loss"
    fail(
        f"{targets.where}: expected one target for each element, shape {shape}; got {targets}{hint}"
    )
