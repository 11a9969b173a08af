"""The rows that have the largest loss, collected block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import isnan
from typing import Any

import numpy as np

from ..evaluation.rows import Measured, host

Entry = dict[str, Any]


def worst_of(
    block: Measured,
    start: tuple[int, ...],
    label: Callable[[tuple[int, ...]], int],
    kept: list[Entry],
    limit: int,
) -> list[Entry]:
    """Return the worst rows so far: those kept, and those of a block that begins at `start`.

    They are the `limit` counted rows with the largest loss: NaN before +inf, of equals the earlier.
    """
    losses, shape = block.losses.reshape(-1), block.losses.shape
    wanted = block.weights.reshape(-1) != 0
    if len(kept) == limit:
        wanted &= ~(losses <= kept[-1]["loss"])
    rows = np.flatnonzero(wanted)
    rows = rows[np.lexsort((-losses[rows], ~np.isnan(losses[rows])))[:limit]]
    if not rows.size:
        return kept
    predicted = host(block.predicted())
    found = []
    for i in rows:
        at = tuple(map(int, np.unravel_index(i, shape))) if shape else ()
        row = {"row": row_name(at, start), "label": label(at), "predicted": int(predicted[at])}
        found.append(row | {"loss": float(losses[i])})
    return merge_worst(kept, found, limit)


def row_name(at: Iterable[int], start: tuple[int, ...]) -> int | list[int]:
    """Return a row's position in the whole: an int if there is one row axis, else a list."""
    position = [int(p) + s for p, s in zip(at, start, strict=True)]
    return position[0] if len(position) == 1 else position


def merge_worst(earlier: list[Entry], later: list[Entry], limit: int) -> list[Entry]:
    """Return the worst of the worst rows of two parts of the whole."""

    def key(entry: Entry) -> tuple[bool, float]:
        undefined = isnan(entry["loss"])
        return undefined, 0.0 if undefined else entry["loss"]

    # Python's sort keeps the order of equal rows, with reverse=True too.
    return sorted([*earlier, *later], key=key, reverse=True)[:limit]
