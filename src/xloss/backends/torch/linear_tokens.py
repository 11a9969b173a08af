"""Linear cross-entropy's row losses on PyTorch, and what a training log needs beside them."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from ..._arrays.inspect import Array
from ...core.call import LossCall
from ...core.token_stats import Tokens
from ..eager import dense as default
from . import backend as whole
from . import linear

FIELDS = Tokens._fields


def tokens(call: LossCall, rank: bool) -> tuple[Array, Tokens]:
    """Return row losses, recorded where something asks for it, and the numbers beside them."""
    arrays = linear.arguments(call)
    if linear.needs_logits(call, (*call.operands, *arrays)):
        return whole.tokens(linear.held(call), rank)
    recorded = torch.is_grad_enabled() and any(a is not None and a.requires_grad for a in arrays)
    if torch.compiler.is_compiling():
        rows, *made = _opaque(*linear.operation_arguments(call, [False] * 4), rank)
        if recorded:  # the value of the operation, and the gradient of the loss's own
            rows = linear.value(call)
    elif recorded:
        rows, *made = _Rows.apply(*arrays, linear.without(call), rank)  # type: ignore[no-untyped-call]
    else:
        return default.tokens(call, rank, partial(linear.run, call, ()))
    return rows, Tokens(*made[: len(FIELDS) - (not rank)])
