"""One task of `xloss eval`: its rows are read, checked and measured, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

import xloss

from ..diagnose.report import Finding, Findings
from ..diagnose.rules import look
from ..engines import choose
from ..evaluation import Evaluation
from ..evaluation.rows import measure, prepared_for
from . import hints
from .array_converters import converter
from .array_files import Source, open_array, read_whole
from .block_checks import (
    check_elements,
    check_labels,
    check_range,
    check_soft,
    check_weight,
    class_last,
)
from .inputs import Index, Task, row_blocks
from .loss_choices import ARGUMENTS, SCORES
from .output import fail, one_line
from .request import Request
from .worst_rows import Entry, worst_of

BLOCK_LOGITS = 2**22  # read at a time: 8 MiB in float16, 32 MiB in float64
SAMPLE_ROWS = 8  # enough to tell probabilities from logits

Block = npt.NDArray[Any]


@dataclass(slots=True)
class TaskResult:
    """What a task comes to."""

    record: Evaluation
    worst: list[Entry]
    findings: tuple[Finding, ...]
    engine: str
    hint: str


@dataclass(frozen=True, slots=True)
class TaskFiles:
    """The two arrays that the rows of a task are read from."""

    logits: Source
    targets: Source
    task: Task

    def blocks(self, limit: int) -> Iterator[tuple[Index, Index]]:
        """Cut the task into row blocks: where their rows stand in the two files."""
        task = self.task
        for block in row_blocks(tuple(s.stop - s.start for s in task.rows), limit):
            rows = [_moved(s, of_task.start) for s, of_task in zip(block, task.rows, strict=True)]
            there = list(rows)
            for axis, ahead in ((0, task.skip), (-1, task.shift)):
                if ahead:
                    there[axis] = _moved(there[axis], ahead)
            yield tuple(rows), tuple(there)

    def read(self, rows: Index, there: Index) -> tuple[Block, Block]:
        """Return the logits and the targets of a row block."""
        logits = self.logits.read(self._with_classes(rows))
        if not self.task.indexed:
            return logits, self.targets.read(self._with_classes(there))
        labels = self.targets.read((*there, slice(0, 1)) if self.task.column else there)
        return logits, labels.reshape([s.stop - s.start for s in rows])

    def label(self, targets: Block, at: tuple[int, ...]) -> int:
        """Return the label of one row of a block; of probabilities, the first largest."""
        if self.task.axis is None:
            return int(targets[at] > 0.5)
        row = targets if self.task.indexed else np.moveaxis(targets, self.task.axis, -1)
        return int(row[at] if self.task.indexed else row[at].argmax())

    def release(self) -> None:
        """Give back the memory that was read into."""
        self.logits.release()
        self.targets.release()

    def _with_classes(self, rows: Index) -> Index:
        axis = self.task.axis
        return rows if axis is None else (*rows[:axis], slice(0, self.task.classes), *rows[axis:])


class TaskRunner:
    """What one request asks of any task; files stay open from one task to the next."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self._convert = converter(request.backend)
        self._weight = None
        if request.weight is not None:
            weight = read_whole(request.weight)
            check_weight(request.weight, weight)
            self._weight = self._convert(weight)
        self._open: dict[str, Source] = {}
        # Until something larger has been freed, glibc returns the pages of freed temporaries to the
        # kernel and takes them again for the next block: half the time of float16 logits.
        with suppress(MemoryError):  # it only saves time
            np.empty(BLOCK_LOGITS, np.float32)

    def __call__(self, task: Task) -> TaskResult:
        """Return record, worst rows, findings and a hint of a task."""
        request, choice, files = self.request, self.request.choice, self._files(task)
        loss, argument = getattr(xloss, choice.name), ARGUMENTS[choice.reads]
        options = request.loss_options(task.axis, self._weight)
        if task.indexed:
            options.pop("ignore_index", None)  # `check_labels` makes -100 of them, the default
        found = Findings()
        result = TaskResult(Evaluation(), [], (), "", "")
        for rows, there in files.blocks(max(1, BLOCK_LOGITS // task.classes)):
            logits, targets = files.read(rows, there)
            begin, begin_there = (tuple(s.start for s in i) for i in (rows, there))
            start = tuple(at + (0 if i else task.first) for i, at in enumerate(begin))
            if task.axis is None:
                check_elements(targets, task, begin_there)
            elif task.indexed:
                targets = check_labels(targets, task, begin_there, request.ignored)
            try:
                arrays = self._convert(logits), self._convert(targets)
                call = prepared_for(loss, argument, *arrays, **options)
                got = measure(call)
            except (TypeError, ValueError) as error:
                fail(one_line(error))
            if not task.indexed:
                check_soft(targets, task, begin_there)
            result.engine = result.engine or choose(call).name
            result.record.add(got)
            counted, scores = got.weights != 0, choice.reads == SCORES
            if not scores:
                check_range(logits, counted, task, begin, choice)
            elif task.axis is not None and not any(start):
                some = tuple(np.argwhere(counted)[:SAMPLE_ROWS].T)
                result.hint = hints.of_values(class_last(logits, task)[some], task.logits)
            if scores and task.axis is not None and not np.all(np.isfinite(got.losses)):
                look(call, got, found, start)
            if request.worst:
                label = partial(files.label, targets)
                result.worst = worst_of(got, start, label, result.worst, request.worst)
            files.release()
        result.findings = found.all()
        return result

    def _files(self, task: Task) -> TaskFiles:
        names = (task.logits, task.targets)
        self._open = {name: self._open.get(name) or open_array(name) for name in names}
        return TaskFiles(self._open[task.logits], self._open[task.targets], task)


def _moved(part: slice, by: int) -> slice:
    return slice(part.start + by, part.stop + by)
