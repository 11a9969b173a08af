"""Dask: row losses and the numbers beside them, a column each of what one step returns."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..._arrays.inspect import Array
from ...core.call import LossCall
from ...core.options import Outputs
from ...core.token_stats import Tokens, dtypes, of_fields
from . import graph as steps
from .chunks import cast
from .labels import TOKEN


def columns(
    call: LossCall, blockwise: Any, rows: tuple[str, ...], asked: Outputs
) -> tuple[Array, Tokens]:
    """Return what a step makes of chunks of whole rows; `rows` labels their axes."""
    kinds = dtypes(call.cx, asked)
    step = partial(steps.tokens, asked=asked)
    every = blockwise(step, (*rows, TOKEN), new={TOKEN: 1 + len(kinds)})
    # In float64, which holds every class number and whether a row is correct.
    made = (cast(every[..., i], kind) for i, kind in enumerate(kinds.values(), 1))
    return cast(every[..., 0], call.cx.compute_dtype), of_fields(made, asked)
