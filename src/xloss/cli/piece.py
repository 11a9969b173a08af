"""One piece of the rows: read, checked and measured, block by block, in whichever process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import __version__
from ..core.call import LossCall
from ..diagnose.report import Findings
from ..diagnose.rules import look
from ..engines import choose
from ..engines.cpu.thread_pool import threads
from ..evaluation import Evaluation
from ..evaluation.rows import measure, prepared
from . import hints
from .backends import converter
from .files import FileProblem, Source, open_array
from .output import Failure, fail, one_line
from .shards import Index, Piece, Question, pieces
from .worst import Worst, row_name

BLOCK = 2**22  # logits read at a time: 8 MiB in float16, 32 in float64

Block = npt.NDArray[Any]
Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Files:
    """The two arrays that a piece is part of."""

    logits: Source
    targets: Source
    piece: Piece

    @property
    def classes(self) -> int:
        """The number of classes."""
        return self.logits.shape[self.piece.axis]

    def blocks(self, limit: int) -> Iterator[Index]:
        """Cut the piece into blocks, as slices of the file's rows."""
        starts = [start for start, _ in self.piece.rows]
        for block in pieces(tuple(stop - start for start, stop in self.piece.rows), limit):
            yield tuple(
                slice(s.start + at, s.stop + at) for s, at in zip(block, starts, strict=True)
            )

    def read(self, rows: Index) -> tuple[Block, Block]:
        """Return the logits and the targets of a block of rows."""
        p, skip = self.piece, self.piece.skip
        there = tuple(slice(s.start + skip, s.stop + skip) for s in rows[:1]) + rows[1:]
        targets = there if p.indexed else self._whole(there)
        return self.logits.read(self._whole(rows)), self.targets.read(targets)

    def label(self, targets: Block, at: tuple[int, ...]) -> int:
        """Return the label of one row of a block; of probabilities, the first largest."""
        row = targets if self.piece.indexed else np.moveaxis(targets, self.piece.axis, -1)
        return int(row[at] if self.piece.indexed else row[at].argmax())

    def release(self) -> None:
        """Give back the memory that was read into."""
        self.logits.release()
        self.targets.release()

    def _whole(self, rows: Index) -> Index:
        axis = self.piece.axis
        return (*rows[:axis], slice(0, self.classes), *rows[axis:])


class Measure:
    """What one question asks of any piece; files stay open from one piece to the next."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self._convert = converter(question.backend)
        self._weight, self._wrong = None, ""
        if question.weight is not None:
            weight = _all_of(question.weight)
            self._weight, self._wrong = self._convert(weight), _negative(question.weight, weight)
        self._open: dict[str, Source] = {}
        # glibc hands the pages of freed temporaries back to the kernel, and takes them again for
        # the next block, until something larger has been freed: half the time of float16 logits.
        with suppress(MemoryError):  # it is a hint
            np.empty(BLOCK, np.float32)
        try:
            threads()  # what the variable says, before it is asked in the middle of a run
        except ValueError as error:
            fail(one_line(error))

    def __call__(self, piece: Piece) -> Answer:
        """Return record, worst rows and findings of a piece, as plain values."""
        question, files = self.question, self._files(piece)
        record, worst, found = Evaluation(), Worst(question.worst), Findings()
        engine, said = "", dict[str, str]()
        simplex: bool | None = None
        for rows in files.blocks(max(1, BLOCK // files.classes)):
            logits, targets = files.read(rows)
            start = tuple(s.start + (0 if i else piece.first) for i, s in enumerate(rows))
            if piece.indexed:
                targets = _labels(targets, start, files, question)
            try:
                call = prepared(
                    self._convert(logits),
                    self._convert(targets),
                    axis=piece.axis,
                    weight=self._weight,
                    ignore_index=question.ignore_index,
                    label_smoothing=question.label_smoothing,
                )
            except (TypeError, ValueError) as error:
                fail(one_line(error))
            if self._wrong:
                fail(self._wrong)
            if not piece.indexed:
                said |= _probabilities(targets, start, piece)
            engine = engine or _engine(call)
            got = measure(call)
            record.add(got)
            if simplex is not False:
                here = hints.are_probabilities(logits, piece.axis, got.weights != 0)
                simplex = simplex if here is None else here
            if not np.all(np.isfinite(got.losses)):
                look(call, got, found, start)
            if question.worst:
                worst.add(got, start, partial(files.label, targets))
            files.release()
        return {
            "record": record.to_dict(),
            "worst": worst.rows(),
            "findings": [asdict(finding) for finding in found.all()],
            "engine": engine,
            "hints": said,
            "simplex": simplex,
        }

    def _files(self, piece: Piece) -> Files:
        names = (piece.logits, piece.targets)
        self._open = {name: self._open.get(name) or open_array(name) for name in names}
        files = Files(self._open[piece.logits], self._open[piece.targets], piece)
        kept = files.logits
        if (kept.shape, kept.dtype) != (piece.shape, piece.dtype):
            raise FileProblem(
                f"{piece.logits}: is {kept.dtype} of shape {kept.shape}, and was {piece.dtype} "
                f"of shape {piece.shape} when the command began"
            )
        return files


def answer(job: dict[str, Any]) -> Answer:
    """Return what a piece comes to, in a process that is told of it in plain values.

    What the user has to know of is a line in `problem`: an exception would lose who says it.
    """
    said: Answer = {"xloss": __version__}
    try:
        said |= Measure(Question(**job["question"]))(Piece(**job["piece"]))
    except Failure as error:
        said["problem"] = str(error)
    return said


def _all_of(where: str) -> Block:
    source = open_array(where)
    return source.read(tuple(slice(0, n) for n in source.shape))


def _negative(where: str, weight: Block) -> str:
    """Say which class weight is negative: what it would make is no loss."""
    found = np.argwhere(weight < 0)
    if not len(found):
        return ""
    at = tuple(map(int, found[0]))
    return f"{where}: weight {weight[at]} of class {row_name(at, (0,) * len(at))} is negative"


def _labels(labels: Block, start: tuple[int, ...], files: Files, question: Question) -> Block:
    """Return labels as int64, and refuse bad ones, tested in the file's own dtype."""
    ignore, classes, piece = question.ignore_index, files.classes, files.piece
    outside = ((labels < 0) | (labels >= classes)) & (labels != ignore)
    if np.any(outside):
        at = np.argwhere(outside)[0]
        hint = hints.of_labels(labels[outside], labels[labels != ignore], classes)
        fail(
            f"{piece.targets}: label {labels[tuple(at)]} of row {_named(at, start, piece)} is not "
            f"in [0, {classes}) and not the ignored {ignore}{hint}"
        )
    return labels.astype(np.int64)


def _probabilities(targets: Block, start: tuple[int, ...], piece: Piece) -> dict[str, str]:
    """Refuse negative soft targets, and return a hint where they are no probabilities."""
    by_row = np.moveaxis(targets, piece.axis, -1)
    negative = by_row < 0
    if np.any(negative):
        at = np.argwhere(negative)[0]
        fail(
            f"{piece.targets}: {by_row[tuple(at)]} of row {_named(at[:-1], start, piece)}, class "
            f"{at[-1]}: a probability is not negative; are these logits, or the two files swapped?"
        )
    off = hints.not_one(by_row, -1)
    if not np.any(off):
        return {}
    at = np.argwhere(off)[0]
    total = float(by_row[tuple(at)].astype(np.float64).sum())
    return {
        piece.targets: f"{piece.targets}: row {_named(at, start, piece)} sums to {total:.6g}: "
        "are these probabilities?"
    }


def _named(at: Any, start: tuple[int, ...], piece: Piece) -> str:
    """Name a row of the targets' file, and its place in the whole where that is another."""
    row = row_name(at, start)
    if piece.skip == piece.first:
        return str(row)
    moved = [p - (0 if i else piece.first - piece.skip) for i, p in enumerate(start)]
    return f"{row_name(at, tuple(moved))} ({row} of the whole)"


def _engine(call: LossCall) -> str:
    """Name the engine that takes these calls."""
    return choose(call.operands, call.options, call.cx).name
