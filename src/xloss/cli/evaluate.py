"""`xloss eval`: the loss of logits in files, piece by piece, here or on a Dask cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import asdict
from math import isfinite, prod
from typing import Any

from ..diagnose.report import Finding, Findings
from ..evaluation import Evaluation
from .backends import known
from .output import visible
from .piece import Answer, Measure
from .shards import Piece, Question, open_whole
from .worst import worst_of

PIECE = 2**26  # logits of one task: a quarter of a GiB in float32, read a block at a time


def evaluate(question: Question, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Return what `xloss eval` prints; `progress` is told the rows done, and their number."""
    known(question.backend)
    whole = open_whole(question)
    begun = time.perf_counter()
    # The same pieces and the same order of merging, whoever computes them: the same digits.
    parts = whole.pieces(max(1, PIECE // whole.classes))
    record, found = Evaluation(), Findings()
    worst: list[dict[str, Any]] = []
    engines, workers = {}, set()
    said: dict[str, str] = {}  # a hint for each file
    simplex: list[bool] = []
    with closing(_answers(question, parts)) as answers:
        for answer in answers:
            record += Evaluation.from_dict(answer["record"])
            found.merge(Finding(**finding) for finding in answer["findings"])
            worst = worst_of(worst, answer["worst"], question.worst)
            engines[answer["engine"]] = True
            workers.add(answer.get("worker"))
            said = answer["hints"] | said
            simplex += [] if answer["simplex"] is None else [answer["simplex"]]
            progress(record.result().rows, prod(whole.rows))
    result = asdict(record.result())
    result.pop("weight")
    result |= {
        "worst": worst,
        "dtype": whole.dtype,
        "shape": list(whole.shape),
        "backend": question.backend,
        "engine": ", ".join(engines),
        "seconds": round(time.perf_counter() - begun, 6),
    }
    if question.scheduler is not None:
        result["workers"] = len(workers)
    if not isfinite(result["loss"]):
        if not len(found):
            why = "the row losses add up to more than any float64"
            found.once("overflow", why, result["rows"], ())
        result["findings"] = [asdict(finding) for finding in found.all()]
    if simplex and all(simplex):
        said[question.logits] = (
            f"{question.logits}: every row is of numbers from 0 to 1 that sum to 1: are these "
            "probabilities? Logits are expected, or the probabilities' logarithms"
        )
    if said:
        result["hints"] = [visible(hint) for hint in said.values()]
    return result


def why(findings: list[dict[str, Any]]) -> str:
    """Return in one line what was found."""
    told = (str(Finding(**finding)).replace("\n    ", ": ") for finding in findings)
    return "; ".join(told)


def _answers(question: Question, parts: Iterable[Piece]) -> Generator[Answer]:
    """Yield what each of the pieces comes to, in their order."""
    if question.scheduler is None:
        yield from map(Measure(question), parts)
    else:
        from .cluster import on_workers

        yield from on_workers(question, parts)
