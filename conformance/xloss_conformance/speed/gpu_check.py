"""xloss on a GPU beside the oracle: few rows, every gradient entry, errors in ulp."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np

from .. import oracle
from ..budget import errors
from ..case import Array
from ..expected import Exact, exact
from ..formats import FORMATS, accumulated
from . import gpu
from .processes import end_with_parent
from .work import Work

BEYOND = 1e9  # ulp of what is no number, or of a call that fails
ALLOWED = 4.0  # ulp of the loss, and of a gradient's entry
ALLOWED_16 = 1.0  # of the 16-bit format: computed in float32, rounded once


class Answer(NamedTuple):
    """The exact mean, and the gradient of every row."""

    value: Exact
    gradient: Exact


Row = tuple[Exact, Exact]


def answers(works: Sequence[Work], threads: int) -> Iterator[Answer]:
    """Give the exact answers to the works' data; of a value and its gradient they are the same."""
    if threads == 1:
        yield from _each(works, lambda *given: _done(_row(*given)))
        return
    context = get_context("spawn")
    # A worker would wait for its next row for ever when the run is ended from outside.
    with ProcessPoolExecutor(threads, context, initializer=_ends) as pool:
        yield from _each(works, lambda *given: pool.submit(_row, *given).result)


def _each(works: Sequence[Work], begin: Callable[..., Callable[[], Row]]) -> Iterator[Answer]:
    """Begin all rows before the first is waited for."""
    begun: dict[tuple[Any, ...], list[Callable[[], Row]]] = {}
    for work in works:
        key = (work.shape, work.dtype)
        if key not in begun:
            given = gpu.data(work)
            rows = zip(given.x, given.y.tolist(), strict=True)
            begun[key] = [begin(x.astype(np.float64).tolist(), y, len(given.y)) for x, y in rows]
    found: dict[tuple[Any, ...], Answer] = {}
    for work in works:
        key = (work.shape, work.dtype)
        if key not in found:
            found[key] = _batch([wait() for wait in begun[key]])
        yield found[key]


def _done(row: Row) -> Callable[[], Row]:
    return lambda: row


def _ends() -> None:
    threading.Thread(target=end_with_parent, daemon=True).start()


def _row(x: list[float], label: int, rows: int) -> Row:
    """Return one row's share of the mean, and of its gradient."""
    row = oracle.softmax_row("cross_entropy", x, label)
    return exact([row.loss / rows]), exact([v / rows for v in row.grad])


def _batch(rows: Sequence[Row]) -> Answer:
    shares = [oracle.mp.mpf(float(v.hi[0])) + float(v.lo[0]) for v, _ in rows]
    gradient = Exact(np.stack([g.hi for _, g in rows]), np.stack([g.lo for _, g in rows]))
    return Answer(exact([sum(shares, oracle.ZERO)]), gradient)


def compared(work: Work, got: tuple[float, Any], answer: Answer) -> dict[str, Any]:
    """Return the worst errors, in ulp: of the loss's format, and of the gradient's."""
    kind = accumulated(work.dtype)
    zero = np.zeros(())
    value = errors(np.asarray([got[0]]), answer.value.hi, answer.value.lo, kind, zero)
    worst = None
    if work.gradient:
        exactly = answer.gradient
        worst = _worst(errors(got[1], exactly.hi, exactly.lo, work.dtype, zero))
    return {"value_ulp": _worst(value), "gradient_ulp": worst}


def _worst(found: Array) -> float:
    worst = float(np.max(found))
    return worst if worst < BEYOND else BEYOND


def allowed(dtype: str, gradient: bool) -> float:
    """Return how many ulp a loss, or an entry of a gradient, may be off."""
    return ALLOWED_16 if gradient and FORMATS[dtype][0] < 24 else ALLOWED
