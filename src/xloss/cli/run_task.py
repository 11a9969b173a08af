"""One task of `xloss eval`: its rows are read, checked and measured, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

import xloss

from ..diagnose.report import Findings
from ..diagnose.rules import look
from ..engines import choose
from ..engines.cpu.thread_pool import threads
from ..evaluation import Evaluation
from ..evaluation.rows import measure, prepared_for
from .array_converters import converter
from .array_files import FileProblem, Source, open_array, read_whole
from .block_checks import (
    BlockPlace,
    check_elements,
    check_labels,
    check_probabilities,
    check_soft,
    check_weight,
    hint_of_sums,
)
from .inputs import Index, Task, row_blocks
from .loss_choices import PROBABILITIES, SCORES
from .output import Failure, fail, one_line
from .request import Request
from .worst_rows import worst_of

# Said of a loss that `xloss.diagnose` knows nothing of.
NOT_FINITE = {
    "nan_loss": (np.isnan, "an input or a target is NaN or infinite, or no class is possible"),
    "infinite_loss": (
        np.isinf,
        "the target has weight on a class to which the input gives the probability 0, or the loss "
        "is larger than any number of its dtype",
    ),
}
BLOCK_LOGITS = 2**22  # read at a time: 8 MiB in float16, 32 MiB in float64

Block = npt.NDArray[Any]
TaskResult = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TaskFiles:
    """The two arrays that the rows of a task are read from."""

    logits: Source
    targets: Source
    task: Task

    def blocks(self, limit: int) -> Iterator[Index]:
        """Cut the task into row blocks, as slices of the file's rows."""
        starts = [start for start, _ in self.task.rows]
        for block in row_blocks(tuple(stop - start for start, stop in self.task.rows), limit):
            yield tuple(
                slice(s.start + at, s.stop + at) for s, at in zip(block, starts, strict=True)
            )

    def read(self, rows: Index) -> tuple[Block, Block]:
        """Return the logits and the targets of a row block."""
        task, there = self.task, list(rows)
        logits = self.logits.read(self._with_classes(rows))
        for axis, ahead in ((0, task.skip), (-1, task.shift)):
            if ahead:
                there[axis] = slice(there[axis].start + ahead, there[axis].stop + ahead)
        if not task.indexed:
            return logits, self.targets.read(self._with_classes(tuple(there)))
        if task.extra_axis is not None:
            there.insert(task.extra_axis, slice(0, 1))
        if task.lacks_axis:
            there.pop()
        size = tuple(s.stop - s.start for s in rows)
        return logits, self.targets.read(tuple(there)).reshape(size)

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
        try:
            threads()  # refuses a bad XLOSS_NUM_THREADS now, and not in the middle of a run
        except ValueError as error:
            fail(one_line(error))

    def __call__(self, task: Task) -> TaskResult:
        """Return record, worst rows, findings and hints of a task, as plain values."""
        request, choice, files = self.request, self.request.choice, self._files(task)
        loss = getattr(xloss, choice.name)
        options = request.loss_options(task.axis, self._weight)
        if task.indexed:
            options.pop("ignore_index", None)  # `check_labels` makes -100 of them, the default
        record, found = Evaluation(), Findings()
        worst: list[dict[str, Any]] = []
        engine, said = "", dict[str, str]()  # the first hint of each file
        for rows in files.blocks(max(1, BLOCK_LOGITS // task.classes)):
            logits, targets = files.read(rows)
            start = tuple(s.start + (0 if i else task.first) for i, s in enumerate(rows))
            place = BlockPlace(task, start)
            if task.axis is None:
                check_elements(targets, place)
            elif task.indexed:
                targets = check_labels(targets, place, request.ignored)
            try:
                call = prepared_for(
                    loss, choice.argument, self._convert(logits), self._convert(targets), **options
                )
            except (TypeError, ValueError) as error:
                fail(one_line(error))
            if not task.indexed:
                said = check_soft(targets, place) | said
            engine = engine or choose(call).name
            got = measure(call)
            record.add(got)
            counted = got.weights != 0
            if choice.reads == PROBABILITIES:
                check_probabilities(logits, counted, place, choice)
            said = hint_of_sums(logits, counted, place, choice) | said
            if not np.all(np.isfinite(got.losses)):
                if choice.reads == SCORES and task.axis is not None:
                    look(call, got, found, start)
                else:
                    for rule, (applies, why) in NOT_FINITE.items():
                        found.marked(rule, why, counted & applies(got.losses), start)
            if request.worst:
                label = partial(files.label, targets)
                worst = worst_of(got, start, label, worst, request.worst)
            files.release()
        return {
            "record": record.to_dict(),
            "worst": worst,
            "findings": [asdict(finding) for finding in found.all()],
            "engine": engine,
            "hints": said,
        }

    def _files(self, task: Task) -> TaskFiles:
        names = (task.logits, task.targets)
        self._open = {name: self._open.get(name) or open_array(name) for name in names}
        files = TaskFiles(self._open[task.logits], self._open[task.targets], task)
        found = files.logits
        if (found.shape, found.dtype) != (task.shape, task.dtype):
            raise FileProblem(
                f"{task.logits}: is {found.dtype} of shape {found.shape}, and was {task.dtype} "
                f"of shape {task.shape} when the command began"
            )
        return files


def run_task(job: dict[str, Any]) -> TaskResult:
    """Run a task that was sent to this process as plain values.

    A failure that the user has to see comes back as a line in `problem`: a pickled exception would
    not say which worker it comes from.
    """
    said: TaskResult = {"xloss": xloss.__version__}
    try:
        said |= TaskRunner(Request(**job["request"]))(Task(**job["task"]))
    except Failure as error:
        said["problem"] = str(error)
    return said
