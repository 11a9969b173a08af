"""The cross-entropies of other libraries on the rows of a file, beside the exact losses."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

import xloss

from .array_files import open_array, read_whole
from .loss_choices import CLASS_OPTIONS
from .request import Request

Rows = npt.NDArray[Any]
LIMIT = 2**24  # logits: peers hold several arrays of this size


def _picked(log_probs: Rows, y: Rows) -> Rows:
    return np.asarray(-np.take_along_axis(log_probs, y[:, None], -1)[:, 0])


def _textbook(z: Rows, y: Rows) -> Rows:
    shifted = z - z.max(axis=-1, keepdims=True)
    return _picked(shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True)), y)


def _scipy(z: Rows, y: Rows) -> Rows:
    from scipy.special import log_softmax

    return _picked(log_softmax(z, axis=-1), y)


def _torch(z: Rows, y: Rows) -> Rows:
    import torch

    loss = torch.nn.functional.cross_entropy
    return np.asarray(loss(torch.tensor(z), torch.tensor(y), reduction="none"))


def _optax(z: Rows, y: Rows) -> Rows:
    import jax
    import optax

    arrays = jax.numpy.asarray(z), jax.numpy.asarray(y)
    return np.asarray(optax.softmax_cross_entropy_with_integer_labels(*arrays))


def _jax(z: Rows, y: Rows) -> Rows:
    import jax

    return _picked(np.asarray(jax.nn.log_softmax(jax.numpy.asarray(z))), y)


def _tensorflow(z: Rows, y: Rows) -> Rows:
    import tensorflow as tf

    return np.asarray(tf.nn.sparse_softmax_cross_entropy_with_logits(y, z))


# A short name, what is called, the library that must be there, and the call.
PEERS: tuple[tuple[str, str, str, Callable[[Rows, Rows], Rows]], ...] = (
    ("textbook formula", "log(sum(exp(z - max))) - (z - max)", "numpy", _textbook),
    ("SciPy log_softmax", "scipy.special.log_softmax", "scipy", _scipy),
    ("torch cross_entropy", "torch.nn.functional.cross_entropy", "torch", _torch),
    ("JAX log_softmax", "jax.nn.log_softmax", "jax", _jax),
    ("optax", "optax.softmax_cross_entropy_with_integer_labels", "optax", _optax),
    ("tf.nn", "tf.nn.sparse_softmax_cross_entropy_with_logits", "tensorflow", _tensorflow),
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
    for name, path, library, call in PEERS:
        try:
            import_module(library)
        except ImportError:
            continue
        with np.errstate(all="ignore"):
            found.append(_compared(name, path, call(logits, labels), exact, numbers))
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
