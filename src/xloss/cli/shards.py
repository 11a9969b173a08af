"""What `xloss eval` is asked about: one array in a file, or in a folder of .npy shards."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from .._arrays.inspect import FLOATS, INTEGERS
from . import hints
from .files import FileProblem, open_array
from .output import fail

Index = tuple[slice, ...]
Shape = tuple[int, ...]
ARRAYS = (".npz", ".safetensors")  # what a folder of .npy shards must not hold beside them


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be evaluated, as the command line has it."""

    logits: str
    targets: str
    backend: str = "numpy"
    axis: int = -1
    ignore_index: int = -100
    label_smoothing: float = 0.0
    weight: str | None = None
    worst: int = 5
    scheduler: str | None = None


@dataclass(frozen=True, slots=True)
class Array:
    """An array in a file, or what the shards of a folder are together."""

    where: str
    shape: Shape
    dtype: str

    def __str__(self) -> str:
        return f"{self.dtype} of shape {self.shape}"


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of one file of logits: plain values, which any process can be told."""

    logits: str
    targets: str
    shape: Shape  # of the logits in the file
    dtype: str
    axis: int  # the class axis, counted from the front
    indexed: bool  # targets are class indices
    first: int  # where row 0 of the file stands in the whole, along the first row axis
    skip: int  # where it stands in the targets' file
    rows: tuple[tuple[int, int], ...]  # start and stop along each row axis of the file

    @property
    def index(self) -> Index:
        """The piece as slices of the file's rows."""
        return tuple(slice(*span) for span in self.rows)


@dataclass(frozen=True, slots=True)
class Whole:
    """All the logits, and the files that they are in; the targets fit them."""

    shape: Shape
    dtype: str
    axis: int
    shards: tuple[Piece, ...]

    @property
    def classes(self) -> int:
        """The number of classes."""
        return self.shape[self.axis]

    @property
    def rows(self) -> Shape:
        """The shape of the rows: that of the logits without the class axis."""
        return without(self.shape, self.axis)

    def pieces(self, limit: int) -> Iterator[Piece]:
        """Cut the shards, in order, into pieces of at most `limit` rows."""
        for shard in self.shards:
            for index in pieces(without(shard.shape, self.axis), limit):
                yield replace(shard, rows=tuple((s.start, s.stop) for s in index))


def open_whole(question: Question) -> Whole:
    """Read the shapes of logits and targets, and refuse those that do not fit each other."""
    logits, targets = _arrays(question.logits), _arrays(question.targets)
    folder = logits is not None
    if targets is not None and logits is None:
        fail(f"{question.targets}: is a folder of shards, and {question.logits} is a file")
    shards = [_array(question.logits)] if logits is None else logits
    whole = _joined(question.logits, shards) if folder else shards[0]
    total = _array(question.targets) if targets is None else _joined(question.targets, targets)
    axis = _class_axis(whole, question.axis, total)
    if folder and axis == 0:
        fail(f"{question.logits}: shards are joined along axis 0: it cannot be the class axis")
    if targets is None:
        fits = [total] * len(shards)
        _fit(whole, total, axis)
    else:
        fits = _pairs(question, shards, targets)
        for shard, labels in zip(shards, fits, strict=True):
            _fit(shard, labels, axis)
    found, first = [], 0
    for shard, labels in zip(shards, fits, strict=True):
        found.append(
            Piece(
                shard.where,
                labels.where,
                shard.shape,
                shard.dtype,
                axis,
                labels.dtype in INTEGERS,
                first,
                first if targets is None else 0,
                (),
            )
        )
        first += shard.shape[0] if folder else 0
    return Whole(whole.shape, whole.dtype, axis, tuple(found))


def pieces(rows: Shape, limit: int) -> Iterator[Index]:
    """Cut the row shape, in order, into pieces of at most `limit` rows."""
    axis, inner = len(rows), 1
    while axis and inner * rows[axis - 1] <= limit:
        axis -= 1
        inner *= rows[axis]
    if axis == 0:
        yield tuple(slice(0, n) for n in rows)
        return
    step = max(1, limit // inner)
    rest = tuple(slice(0, n) for n in rows[axis:])
    for head in product(*map(range, rows[: axis - 1])):
        for start in range(0, rows[axis - 1], step):
            stop = min(start + step, rows[axis - 1])
            yield (*(slice(i, i + 1) for i in head), slice(start, stop), *rest)


def without(shape: Shape, axis: int) -> Shape:
    """Return a shape without one of its axes."""
    return shape[:axis] + shape[axis + 1 :]


def _array(where: str) -> Array:
    # Not kept open: a folder may hold more shards than a process may have files.
    source = open_array(where)
    return Array(where, source.shape, source.dtype)


def _arrays(where: str) -> list[Array] | None:
    """Return the shards of a folder in the natural order of their names, or None for a file."""
    if not os.path.isdir(where):
        return None
    try:
        names = [name for name in os.listdir(where) if not name.startswith(".")]
    except OSError as error:
        raise FileProblem(f"{where}: {error.strerror or error}") from None
    if other := sorted(n for n in names if n.lower().endswith(ARRAYS)):
        fail(f"{where}: expected shards in .npy files alone, got {other[0]} too")
    shards = sorted((n for n in names if n.lower().endswith(".npy")), key=_natural)
    if not shards:
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


def _pairs(question: Question, shards: list[Array], targets: list[Array]) -> list[Array]:
    """Return the targets of each shard of logits: those of the same name."""
    named = {os.path.basename(t.where): t for t in targets}
    names = [os.path.basename(s.where) for s in shards]
    for name in names:
        if name not in named:
            fail(f"{question.targets}: holds no {name}, which {question.logits} does")
    if more := named.keys() - set(names):
        fail(f"{question.targets}: holds {min(more)}, and {question.logits} does not")
    return [named[name] for name in names]


def _class_axis(logits: Array, axis: int, targets: Array) -> int:
    """Return the class axis counted from the front, of logits that can be such."""
    shape = logits.shape
    if logits.dtype not in FLOATS:
        hint = hints.of_logits(shape, targets.shape, targets.dtype)
        fail(f"{logits.where}: expected floating logits, got {logits}{hint}")
    if not -len(shape) <= axis < len(shape):
        fail(f"{logits.where}: has no axis {axis}: its shape is {shape}")
    axis %= len(shape)
    if shape[axis] == 0:
        fail(f"{logits.where}: expected at least one class, got shape {shape}, class axis {axis}")
    return axis


def _fit(logits: Array, targets: Array, axis: int) -> None:
    """Refuse targets that are not those of the logits."""
    shape, rows = logits.shape, without(logits.shape, axis)
    indexed = targets.dtype in INTEGERS
    if (targets.dtype in FLOATS or indexed) and targets.shape == (rows if indexed else shape):
        return
    hint = hints.of_shapes(shape, targets.shape, targets.dtype, targets.where, axis)
    if indexed:
        fail(
            f"{targets.where}: expected labels of shape {rows}, that of the logits {shape} without "
            f"the class axis {axis}; got {targets}{hint}"
        )
    fail(
        f"{targets.where}: expected integer labels, or probabilities of the logits' shape "
        f"{shape}; got {targets}{hint}"
    )
