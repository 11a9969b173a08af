"""`xloss eval`: the loss of logits in files, task by task, here or on a Dask cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import asdict, replace
from importlib import import_module
from math import isfinite, prod
from typing import Any

from ..diagnose.report import Finding, Findings
from ..evaluation import Evaluation
from .array_libraries import ALL, SUPPORTED, BackendMissing
from .inputs import Task, open_inputs, tasks_of
from .loss_choices import NO_PERPLEXITY
from .output import fail, one_line, visible
from .peers import peers_of
from .request import Request
from .run_task import TaskResult, TaskRunner
from .worst_rows import Entry, merge_worst

TASK_LOGITS = 2**26  # of one task: a quarter of a GiB in float32, read a block at a time

# What is told of each library for --backend all.
PER_BACKEND = ("loss", "perplexity", "accuracy", "engine", "seconds")


def evaluate(request: Request, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Return what `xloss eval` prints; `progress` gets the rows done and the number of all rows."""
    if request.backend == ALL:
        return _on_all(request, progress)
    choice = request.choice
    whole, shards = open_inputs(request)
    rows = sum(prod(shard.row_shape) for shard in shards)
    begun = time.perf_counter()
    # Whoever computes them, the tasks are the same and are merged in the same order, so that the
    # sums have the same digits.
    tasks = tasks_of(shards, TASK_LOGITS)
    record, found, worst = Evaluation(), Findings(), list[Entry]()
    engines, hint = dict[str, bool](), ""
    with closing(_results(request, tasks)) as results:
        for part in results:
            record += part.record
            for finding in part.findings:
                found.add(finding)
            worst = merge_worst(worst, part.worst, request.worst)
            engines[part.engine] = True
            hint = hint or part.hint
            progress(record.result().rows, rows)
    result = asdict(record.result())
    result.pop("weight")
    result |= {
        "worst": worst,
        "dtype": whole.dtype,
        "shape": list(whole.shape),
        "function": choice.name,
        "shift": request.shift,
        "backend": request.backend,
        "engine": ", ".join(engines),
        "seconds": round(time.perf_counter() - begun, 6),
    }
    if not choice.has_perplexity:
        result |= {"perplexity": None, "not_given": {"perplexity": NO_PERPLEXITY}}
    if not isfinite(result["loss"]):
        result["findings"] = [asdict(finding) for finding in found.all()]
    if hint:
        result["hint"] = visible(hint)
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
    losses = [row["loss"] for row in rows]
    return result | {
        "backend": ALL,
        "engine": ", ".join(dict.fromkeys(row["engine"] for row in rows)),
        "seconds": round(sum(row["seconds"] for row in rows), 6),
        "backends": rows,
        "missing": missing,
        "spread": (max(losses) - min(losses)) / (abs(losses[0]) or 1),
        **peers_of(request, result["shape"]),
    }


def reason_for_nan(findings: list[dict[str, Any]]) -> str:
    """Return the findings as one line."""
    lines = (str(Finding(**finding)).replace("\n    ", ": ") for finding in findings)
    return "; ".join(lines) or "an input or a target is NaN or infinite, or no class is possible"


def _results(request: Request, tasks: Iterable[Task]) -> Generator[TaskResult]:
    """Yield what each of the tasks comes to, in their order."""
    if request.scheduler is None:
        yield from map(TaskRunner(request), tasks)
    else:
        from .cluster import on_workers

        yield from on_workers(request, tasks)
