"""Dask: row losses and the numbers beside them, a column each of what one step returns."""

from __future__ import annotations

from typing import Any

from ..._arrays.inspect import Array
from ...core.call import LossCall
from ...core.token_stats import Tokens
from . import graph as steps
from .labels import TOKEN


def columns(
    call: LossCall, blockwise: Any, rows: tuple[str, ...], rank: bool
) -> tuple[Array, Tokens]:
    """Return what a step makes of chunks of whole rows; `rows` labels their axes."""
    cx = call.cx
    step = steps.tokens_and_rank if rank else steps.tokens
    number = 1 + len(Tokens._fields) - (not rank)
    every = blockwise(step, (*rows, TOKEN), new={TOKEN: number})
    loss, *numbers = (every[..., i].astype(cx.compute_dtype) for i in range(number))
    made = Tokens(*numbers)
    made = made._replace(correct=made.correct != 0)
    if rank:  # from float64, which holds every class number
        made = made._replace(rank=every[..., number - 1].astype(cx.label_dtype))
    return loss, made


def one_row(loss: Array, made: Tokens) -> tuple[Array, Tokens]:
    """Return the numbers of the only row."""
    return loss[0], Tokens(*(None if a is None else a[0] for a in made))  # type: ignore[arg-type]
