"""Run `xloss eval --backend all`: the same files on every array library that is installed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import isnan
from typing import Any

from .array_converters import NAMES, BackendMissing
from .evaluate import evaluate
from .machine import version_of
from .output import fail, one_line
from .peers import peers_of
from .request import Request

PER_BACKEND = ("loss", "perplexity", "accuracy", "engine", "seconds")


def evaluate_on_all(request: Request, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Return NumPy's result, and beside it what every other library and the peers give.

    A library that is not installed, or cannot run here, is named with the reason.
    """
    if request.scheduler is not None:
        fail("--backend all: not with --scheduler; name the one library that the workers use")
    rows, missing = [], []
    result: dict[str, Any] = {}
    for name in NAMES:
        try:
            found = evaluate(replace(request, backend=name), progress)
        except BackendMissing as error:
            missing.append({"backend": name, "reason": one_line(error)})
            continue
        result = result or found  # NumPy is the first, and cannot be missing
        rows.append(
            {"backend": name, "version": version_of(name)} | {k: found[k] for k in PER_BACKEND}
        )
    return result | {
        "backend": "all",
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
