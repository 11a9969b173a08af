"""`xloss eval`: the loss of logits in files, task by task, here or on a Dask cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import asdict, replace
from importlib import import_module
from math import isfinite, isnan, prod
from typing import Any

from ..diagnose.report import Finding, Findings
from ..evaluation import Evaluation
from .array_converters import ALL, BackendMissing, must_be_known
from .array_libraries import SUPPORTED
from .inputs import Task, open_inputs
from .output import fail, one_line, visible
from .peers import peers_of
from .request import Request
from .run_task import TaskResult, TaskRunner
from .worst_rows import merge_worst

TASK_LOGITS = 2**26  # of one task: a quarter of a GiB in float32, read a block at a time

# What is told of each library for --backend all.
PER_BACKEND = ("loss", "perplexity", "accuracy", "engine", "seconds")


def evaluate(request: Request, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Return what `xloss eval` prints; `progress` gets the rows done and the number of all rows."""
    if request.backend == ALL:
        return _on_all(request, progress)
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
    with closing(_results(request, tasks)) as results:
        for part in results:
            record += Evaluation.from_dict(part["record"])
            for finding in part["findings"]:
                found.add(Finding(**finding))
            worst = merge_worst(worst, part["worst"], request.worst)
            engines[part["engine"]] = True
            workers.add(part.get("worker"))
            hints = part["hints"] | hints
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
            found.add(Finding("overflow", result["rows"], (), why))
        result["findings"] = [asdict(finding) for finding in found.all()]
    if hints:
        result["hints"] = [visible(hint) for hint in hints.values()]
    return result


def _on_all(request: Request, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Return NumPy's result, and beside it what every other library and the peers give.

    A library that is not installed, or cannot run here, is named with the reason.
    """
    if request.scheduler is not None:
        fail("--backend all: not with --scheduler; name the one library that the workers use")
    rows, missing = [], []
    result: dict[str, Any] = {}
    for name in SUPPORTED:
        try:
            found = evaluate(replace(request, backend=name), progress)
        except BackendMissing as error:
            missing.append({"backend": name, "reason": one_line(error)})
            continue
        result = result or found  # NumPy is the first, and cannot be missing
        row = {"backend": name, "version": str(import_module(name).__version__)}
        rows.append(row | {key: found[key] for key in PER_BACKEND})
    return result | {
        "backend": ALL,
        "engine": ", ".join(dict.fromkeys(row["engine"] for row in rows)),
        "seconds": round(sum(row["seconds"] for row in rows), 6),
        "backends": rows,
        "missing": missing,
        "spread": _spread([row["loss"] for row in rows]),
        **peers_of(request, result["shape"]),
    }


def _spread(losses: list[float]) -> float:
    """Return the largest difference of two of the losses, as a share of the first."""
    if any(map(isnan, losses)):
        return 0.0 if all(map(isnan, losses)) else float("nan")
    if min(losses) == max(losses):
        return 0.0
    return (max(losses) - min(losses)) / abs(losses[0]) if losses[0] else float("inf")


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
