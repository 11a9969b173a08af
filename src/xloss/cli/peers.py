"""The cross-entropies of other libraries on the rows of a file, beside the exact losses."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from pkgutil import resolve_name
from typing import Any

import numpy as np
import numpy.typing as npt

import xloss

from .array_files import open_array, read_whole
from .loss_choices import CLASS_OPTIONS
from .request import Request

Rows = npt.NDArray[Any]
LIMIT = 2**24  # logits: peers hold several arrays of this size


def _log_softmax(function: Any, z: Rows, y: Rows) -> Any:
    return -np.take_along_axis(np.asarray(function(z, axis=-1)), y[:, None], -1)[:, 0]


def _by_name(function: Any, z: Rows, y: Rows) -> Any:
    return function(logits=z, labels=y)


def _torch(function: Any, z: Rows, y: Rows) -> Any:
    import torch

    return function(torch.tensor(z), torch.tensor(y), reduction="none")


def textbook(z: Rows, axis: int) -> Rows:
    """Return the logarithm of softmax as textbooks have it."""
    shifted = z - z.max(axis, keepdims=True)
    return np.asarray(shifted - np.log(np.sum(np.exp(shifted), axis, keepdims=True)))


# A short name, what is called, and how.
PEERS: tuple[tuple[str, str, Callable[[Any, Rows, Rows], Any]], ...] = (
    ("textbook formula", "xloss.cli.peers.textbook", _log_softmax),
    ("SciPy log_softmax", "scipy.special.log_softmax", _log_softmax),
    ("torch cross_entropy", "torch.nn.functional.cross_entropy", _torch),
    ("JAX log_softmax", "jax.nn.log_softmax", _log_softmax),
    ("optax", "optax.softmax_cross_entropy_with_integer_labels", _by_name),
    ("tf.nn", "tensorflow.nn.sparse_softmax_cross_entropy_with_logits", _by_name),
)


def peers_of(request: Request, shape: list[int]) -> dict[str, Any]:
    """Return what the peers installed here make of the rows, or why they are not compared.

    The exact losses are those of the logits in float64, where xloss errs by 1e-15 of a loss. A
    peer's row is *lost* where it gives exactly 0, and the loss is not.
    """
    if why := _not_compared(request, shape):
        return {"peers": [], "peers_not_compared": why}
    logits, targets = (read_whole(where) for where in (request.logits, request.targets))
    targets = targets.reshape(len(targets))
    counted = targets != request.ignored
    logits, labels = logits[counted], targets[counted].astype(np.int64)
    exact = np.asarray(xloss.cross_entropy(logits.astype(np.float64), labels, reduction="none"))
    own = np.asarray(xloss.cross_entropy(logits, labels, reduction="none"))
    numbers = np.flatnonzero(counted)
    found = [_compared("xloss", "xloss.cross_entropy", own, exact, numbers)]
    for name, path, way in PEERS:
        try:
            function = resolve_name(path)
        except ImportError:
            continue
        with np.errstate(all="ignore"):
            rows = np.asarray(way(function, logits, labels))
        found.append(_compared(name, path, rows, exact, numbers))
    return {"peers": found}


def _not_compared(request: Request, shape: list[int]) -> str:
    given = [n for n in CLASS_OPTIONS if n != "ignore_index" and getattr(request, n)]
    if request.loss != "cross_entropy" or given:
        return "other losses are compared for the plain cross-entropy, without options"
    if len(shape) != 2 or prod(shape) > LIMIT:
        return f"other losses are compared for (rows, classes) of up to {LIMIT:,} logits"
    if "int" not in open_array(request.targets).dtype:
        return "other losses are compared for class indices"
    if open_array(request.logits).dtype not in ("float32", "float64"):
        return "other losses are compared in float32 and float64"
    return ""


def _compared(
    name: str, call: str, rows: Rows, exact: Rows, numbers: npt.NDArray[np.intp]
) -> dict[str, Any]:
    """Return a peer's mean, how many rows it loses, and the row that is farthest off."""
    rows = rows.astype(np.float64) + 0.0  # so that -0 is shown as 0
    with np.errstate(all="ignore"):
        error = np.abs(rows - exact) / np.where(exact == 0, 1, exact)
    error = np.where(np.isfinite(exact), error, 0.0)
    # Of the rows that are as far off, the one with the largest loss.
    worst = int(np.lexsort((exact, error))[-1]) if error.size else 0
    return {
        "name": name,
        "call": call,
        "loss": float(rows.mean()) if rows.size else 0.0,
        "lost": int(np.count_nonzero((rows == 0) & (exact > 0))),
        "error": float(error[worst]) if error.size else 0.0,
        "row": int(numbers[worst]) if error.size else None,
        "gives": float(rows[worst]) if error.size else None,
        "exact": float(exact[worst]) if error.size else None,
    }
