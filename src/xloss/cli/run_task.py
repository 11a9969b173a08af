"""One task of `xloss eval`: its rows are read, checked and measured, block by block."""

from __future__ import annotations

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
from .array_files import Source, open_array, read_whole
from .array_libraries import converter
from .block_checks import check_range, check_weight, checked_targets, class_last
from .inputs import Index, Task
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
        request, choice = self.request, self.request.choice
        loss, argument = getattr(xloss, choice.name), ARGUMENTS[choice.reads]
        options = request.loss_options(task.axis, self._weight)
        if task.indexed:
            options.pop("ignore_index", None)  # `checked_targets` makes -100 of them, the default
        found = Findings()
        result = TaskResult(Evaluation(), [], (), "", "")
        for rows, there in task.blocks(max(1, BLOCK_LOGITS // task.classes)):
            logits, targets = self._read(task, rows, there)
            begin, begin_there = (tuple(s.start for s in i) for i in (rows, there))
            start = tuple(at + (0 if i else task.first) for i, at in enumerate(begin))
            targets = checked_targets(targets, task, begin_there, request.ignored)
            try:
                arrays = self._convert(logits), self._convert(targets)
                call = prepared_for(loss, argument, *arrays, **options)
                got = measure(call)
            except (TypeError, ValueError) as error:
                fail(one_line(error))
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
                label = partial(_label, task, targets)
                result.worst = worst_of(got, start, label, result.worst, request.worst)
        result.findings = found.all()
        return result

    def _read(self, task: Task, rows: Index, there: Index) -> tuple[Block, Block]:
        """Return the logits and the targets of a row block."""
        names = (task.logits, task.targets)
        self._open = {name: self._open.get(name) or open_array(name) for name in names}
        logits = self._open[task.logits].read(task.with_classes(rows))
        if task.column:
            there = (*there, slice(0, 1))
        targets = self._open[task.targets].read(there if task.indexed else task.with_classes(there))
        return logits, targets[..., 0] if task.column else targets


def _label(task: Task, targets: Block, at: tuple[int, ...]) -> int:
    """Return the label of one row of a block; of probabilities, the first largest."""
    if task.axis is None:
        return int(targets[at] > 0.5)
    return int(targets[at] if task.indexed else class_last(targets, task)[at].argmax())
