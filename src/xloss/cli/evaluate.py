"""`xloss eval`: the loss of logits in a file, block by block."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from math import isfinite, prod
from typing import Any

import numpy as np
import numpy.typing as npt

from .._xp import FLOATS, INTEGERS
from ..backends.call import Call
from ..diagnose.report import Findings
from ..diagnose.rules import look
from ..engines import choose
from ..evaluation import Evaluation
from ..evaluation.rows import measure, prepared
from .backends import converter
from .files import Source, open_array
from .output import fail, one_line
from .worst import Worst, row_name

BLOCK = 2**22  # logits read at a time: 8 MiB in float16, 32 in float64

Index = tuple[slice, ...]
Block = npt.NDArray[Any]


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


@dataclass(frozen=True, slots=True)
class Files:
    """The two arrays, of shapes that fit each other."""

    logits: Source
    targets: Source
    axis: int  # the class axis, counted from the front
    indexed: bool  # targets are class indices

    @property
    def classes(self) -> int:
        """The number of classes."""
        return self.logits.shape[self.axis]

    @property
    def rows(self) -> tuple[int, ...]:
        """The shape of the rows: that of the logits without the class axis."""
        return _without(self.logits.shape, self.axis)

    def read(self, piece: Index) -> tuple[Block, Block]:
        """Return the logits and the targets of a piece of the rows."""
        whole = (*piece[: self.axis], slice(0, self.classes), *piece[self.axis :])
        return self.logits.read(whole), self.targets.read(piece if self.indexed else whole)

    def label(self, targets: Block, at: tuple[int, ...]) -> int:
        """Return the label of one row of a piece; of probabilities, the first largest."""
        row = targets if self.indexed else np.moveaxis(targets, self.axis, -1)
        return int(row[at] if self.indexed else row[at].argmax())


def evaluate(question: Question, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Return what `xloss eval` prints; `progress` is told the rows done, and their number."""
    files = _open(question)
    convert = converter(question.backend)
    begun = time.perf_counter()
    weight = None
    if question.weight is not None:
        stored = open_array(question.weight)
        weight = convert(stored.read(tuple(slice(0, n) for n in stored.shape)))
    # glibc hands the pages of freed temporaries back to the kernel, and takes them again for the
    # next block, until something larger has been freed: half the time of float16 logits.
    np.empty(BLOCK, np.float32)
    record, worst, found = Evaluation(), Worst(question.worst), Findings()
    engine = ""
    for piece in pieces(files.rows, max(1, BLOCK // files.classes)):
        logits, targets = files.read(piece)
        start = tuple(s.start for s in piece)
        if files.indexed:
            targets = _labels(targets, start, files.classes, question)
        try:
            call = prepared(
                convert(logits), convert(targets), axis=files.axis, weight=weight,
                ignore_index=question.ignore_index, label_smoothing=question.label_smoothing,
            )  # fmt: skip
        except (TypeError, ValueError) as error:
            fail(one_line(error))
        engine = engine or _engine(call)
        got = measure(call)
        record.add(got)
        if not np.all(np.isfinite(got.losses)):
            look(call, got, found, start)
        if question.worst:
            worst.add(got, start, partial(files.label, targets))
        progress(record.result().rows, prod(files.rows))
        files.logits.release()
        files.targets.release()
    result = asdict(record.result())
    result.pop("weight")
    result |= {
        "worst": worst.rows(),
        "dtype": files.logits.dtype,
        "shape": list(files.logits.shape),
        "backend": question.backend,
        "engine": engine,
        "seconds": round(time.perf_counter() - begun, 6),
    }
    if not isfinite(result["loss"]):
        if not len(found):
            why = "the row losses add up to more than any float64"
            found.once("overflow", why, result["rows"], ())
        result["findings"] = [asdict(finding) for finding in found.all()]
    return result


def pieces(rows: tuple[int, ...], limit: int) -> Iterator[Index]:
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


def _open(question: Question) -> Files:
    """Open the two arrays, and refuse those that do not fit each other."""
    logits, targets = open_array(question.logits), open_array(question.targets)
    shape, axis = logits.shape, question.axis
    if logits.dtype not in FLOATS:
        fail(f"{question.logits}: expected floating logits, got {_described(logits)}")
    if not -len(shape) <= axis < len(shape):
        fail(f"{question.logits}: has no axis {axis}: its shape is {shape}")
    axis %= len(shape)
    if shape[axis] == 0:
        fail(
            f"{question.logits}: expected at least one class, got shape {shape}, class axis {axis}"
        )
    if targets.dtype in INTEGERS:
        rows = _without(shape, axis)
        if targets.shape != rows:
            fits = [i for i in range(len(shape)) if _without(shape, i) == targets.shape]
            hint = f"; did you mean --axis {fits[0]}?" if fits else ""
            fail(
                f"{question.targets}: expected labels of shape {rows}, that of the logits "
                f"{shape} without the class axis {axis}; got {_described(targets)}{hint}"
            )
    elif targets.dtype not in FLOATS or targets.shape != shape:
        fail(
            f"{question.targets}: expected integer labels, or probabilities of the logits' shape "
            f"{shape}; got {_described(targets)}"
        )
    return Files(logits, targets, axis, targets.dtype in INTEGERS)


def _labels(labels: Block, start: tuple[int, ...], classes: int, question: Question) -> Block:
    """Return labels as int64, and refuse bad ones, tested in the file's own dtype."""
    ignore = question.ignore_index
    outside = ((labels < 0) | (labels >= classes)) & (labels != ignore)
    if np.any(outside):
        at = np.argwhere(outside)[0]
        row = row_name(at, start)
        fail(
            f"{question.targets}: label {labels[tuple(at)]} of row {row} is not in [0, {classes}) "
            f"and not the ignored {ignore}"
        )
    return labels.astype(np.int64)


def _engine(call: Call) -> str:
    """Name the engine that takes these calls."""
    return choose(call.operands, call.spec, call.cx).name


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return shape[:axis] + shape[axis + 1 :]


def _described(source: Source) -> str:
    return f"{source.dtype} of shape {source.shape}"
