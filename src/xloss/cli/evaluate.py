"""`xloss eval`: the loss of logits in files, task by task, here or on a Dask cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import asdict
from math import isfinite, prod
from typing import Any

from ..diagnose.report import Finding, Findings
from ..evaluation import Evaluation
from .array_converters import must_be_known
from .inputs import Task, open_inputs
from .output import visible
from .request import Request
from .run_task import TaskResult, TaskRunner
from .worst_rows import merge_worst

TASK_LOGITS = 2**26  # of one task: a quarter of a GiB in float32, read a block at a time


def evaluate(request: Request, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Return what `xloss eval` prints; `progress` gets the rows done and the number of all rows."""
    must_be_known(request.backend)
    choice = request.choice
    inputs = open_inputs(request)
    begun = time.perf_counter()
    # Whoever computes them, the tasks are the same and are merged in the same order, so that the
    # sums have the same digits.
    tasks = inputs.tasks(TASK_LOGITS)
    record, found = Evaluation(), Findings()
    worst: list[dict[str, Any]] = []
    engines, workers = {}, set()
    hints: dict[str, str] = {}  # the first for each file
    simplex: list[bool] = []
    with closing(_results(request, tasks)) as results:
        for part in results:
            record += Evaluation.from_dict(part["record"])
            found.merge(Finding(**finding) for finding in part["findings"])
            worst = merge_worst(worst, part["worst"], request.worst)
            engines[part["engine"]] = True
            workers.add(part.get("worker"))
            hints = part["hints"] | hints
            simplex += [] if part["simplex"] is None else [part["simplex"]]
            progress(record.result().rows, prod(inputs.rows))
    result = asdict(record.result())
    result.pop("weight")
    result |= {
        "worst": worst,
        "dtype": inputs.dtype,
        "shape": list(inputs.shape),
        "function": choice.name,
        "shift": request.shift,
        "backend": request.backend,
        "engine": ", ".join(engines),
        "seconds": round(time.perf_counter() - begun, 6),
    }
    if choice.no_perplexity is not None:
        result["perplexity"] = None
        result["not_given"] = {"perplexity": choice.no_perplexity}
    if request.scheduler is not None:
        result["workers"] = len(workers)
    if not isfinite(result["loss"]):
        if not len(found):
            why = "the row losses add up to more than any float64"
            found.once("overflow", why, result["rows"], ())
        result["findings"] = [asdict(finding) for finding in found.all()]
    if simplex and all(simplex):
        hints[request.logits] = (
            f"{request.logits}: every row is of numbers from 0 to 1 that sum to 1: are these "
            "probabilities? Logits are expected; the loss of probabilities is --loss log_loss"
        )
    if hints:
        result["hints"] = [visible(hint) for hint in hints.values()]
    return result


def reason_for_nan(findings: list[dict[str, Any]]) -> str:
    """Return the findings as one line."""
    lines = (str(Finding(**finding)).replace("\n    ", ": ") for finding in findings)
    return "; ".join(lines)


def _results(request: Request, tasks: Iterable[Task]) -> Generator[TaskResult]:
    """Yield what each of the tasks comes to, in their order."""
    if request.scheduler is None:
        yield from map(TaskRunner(request), tasks)
    else:
        from .cluster import on_workers

        yield from on_workers(request, tasks)
