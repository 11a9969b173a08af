"""The arguments of a case as the oracle takes them: row by row."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from . import top_k
from .model import BINARY, Array, Case, Stored
from .top_k import TOP_K


class Rows(NamedTuple):
    """What the oracle is asked, row by row; of a binary loss, element by element."""

    shape: tuple[int, ...]  # of the rows
    x: Array  # the first argument, the classes on its last axis
    rows: Array  # of it, one after another
    targets: Any  # of each row; None: entropy
    sample_weight: Array
    keep: Array  # whether a row is there
    options: dict[str, Any]  # as the oracle takes them, the same for every row
    pos_weight: Array | None


def rows_of(case: Case, arguments: Stored) -> Rows:
    """Take the arguments of a case apart."""
    of_batch = {"axis", "reduction", "normalizer", "ignore_index", "validate", "pos_weight"}
    of_batch |= {"sample_weight", "where"}
    given = arguments.options
    x, t = arguments.x, arguments.targets
    if case.tile > 1:
        x, t = x[0], None if t is None else t[0]
    binary = case.loss in BINARY
    if not binary:
        x = np.moveaxis(x, case.axis, -1)
        t = np.moveaxis(t, case.axis, -1) if t is not None and not case.index else t
    shape = x.shape if binary else x.shape[:-1]
    count = int(np.prod(shape))
    rows = x.reshape(count, *x.shape[len(shape) :] or (1,))
    rows = rows if rows.dtype == object else rows.astype(np.float64)
    targets = [None] * count if t is None else t.reshape(count, *t.shape[len(shape) :])
    s = np.broadcast_to(np.asarray(given.get("sample_weight", 1.0), np.float64), shape).ravel()
    keep = np.broadcast_to(given.get("where", True), shape).ravel() & (s != 0)
    ignore = given.get("ignore_index", -100)
    if case.index and ignore is not None and t is not None:
        labels = t.ravel().tolist()  # exact, of any integer dtype
        keep = keep & np.asarray([label != ignore for label in labels], bool)
    if case.loss == TOP_K and t is not None:
        keep = keep & ~top_k.absent(t.reshape(count, -1))
    options = {
        k: np.asarray(v, np.float64).tolist() if isinstance(v, np.ndarray) else v
        for k, v in given.items()
        if v is not None and k not in of_batch
    }
    pos = given.get("pos_weight")
    pos_weight = None if pos is None else np.broadcast_to(pos, shape).ravel()
    return Rows(shape, x, rows, targets, s, keep, options, pos_weight)
