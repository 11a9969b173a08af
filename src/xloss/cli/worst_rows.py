"""The rows that have the largest loss, collected block by block."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from math import isnan
from typing import Any

import numpy as np
import numpy.typing as npt

from ..evaluation.rows import Measured, host

Key = tuple[bool, float, int]


class WorstRows:
    """The `limit` counted rows with the largest loss: NaN before +inf, of equals the earlier."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._heap: list[tuple[Key, dict[str, Any]]] = []
        self._seen = 0

    def add(
        self, block: Measured, start: tuple[int, ...], label: Callable[[tuple[int, ...]], int]
    ) -> None:
        """Take what belongs here from a block whose first row stands at `start` in the whole."""
        predicted: Any = None
        losses, shape = block.losses.reshape(-1), block.losses.shape
        for i in self._candidates(losses, block.weights.reshape(-1) != 0):
            loss = float(losses[i])
            key = (isnan(loss), 0.0 if isnan(loss) else loss, -self._seen - int(i))
            if len(self._heap) == self.limit and key < self._heap[0][0]:
                break
            predicted = host(block.predicted()) if predicted is None else predicted
            at = tuple(map(int, np.unravel_index(i, shape))) if shape else ()
            entry = {
                "row": row_name(at, start),
                "label": label(at),
                "predicted": int(predicted[at]),
                "loss": loss,
            }
            if len(self._heap) == self.limit:
                heapq.heapreplace(self._heap, (key, entry))
            else:
                heapq.heappush(self._heap, (key, entry))
        self._seen += losses.size

    def _candidates(
        self, losses: npt.NDArray[np.float64], counted: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.intp]:
        """Return at most `limit` rows of the block that may be among the worst, the worst first."""
        wanted = counted
        if len(self._heap) == self.limit:
            (undefined, least, _), _ = self._heap[0]
            if undefined:  # all kept rows are NaN: nothing is worse
                return np.empty(0, dtype=np.intp)
            wanted = counted & ~(losses <= least)
        rows = np.flatnonzero(wanted)
        chosen = losses[rows]
        return rows[np.lexsort((-chosen, ~np.isnan(chosen)))[: self.limit]]

    def rows(self) -> list[dict[str, Any]]:
        """Return the kept rows, the worst first."""
        return [entry for _, entry in sorted(self._heap, key=lambda item: item[0], reverse=True)]


def row_name(at: Iterable[int], start: tuple[int, ...]) -> int | list[int]:
    """Return a row's position in the whole: an int if there is one row axis, else a list."""
    position = [int(p) + s for p, s in zip(at, start, strict=True)]
    return position[0] if len(position) == 1 else position


def merge_worst(
    earlier: list[dict[str, Any]], later: list[dict[str, Any]], limit: int
) -> list[dict[str, Any]]:
    """Return the worst of the worst rows of two parts of the whole."""

    def key(entry: dict[str, Any]) -> tuple[bool, float]:
        undefined = isnan(entry["loss"])
        return undefined, 0.0 if undefined else entry["loss"]

    # Python's sort keeps the order of equal rows, with reverse=True too.
    return sorted([*earlier, *later], key=key, reverse=True)[:limit]
