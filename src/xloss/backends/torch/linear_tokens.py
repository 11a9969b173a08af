"""PyTorch: row losses of a linear layer's output together with what a training log needs beside.

`linear` has the loss and every gradient; this adds the pass that returns more.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from ..._arrays.inspect import Array
from ...core.call import LossCall
from ...core.options import Outputs
from ...core.token_stats import Tokens, of_fields
from ..eager import dense as default
from ..eager.linear import NAMES
from . import backend as whole
from . import linear
from . import linear_operation as operation
from .linear import value, value_and_grad
from .linear_blocks import arguments, run, with_arrays, without
from .linear_logits import held, needs_logits

__all__ = ["tokens", "value", "value_and_grad"]


def tokens(call: LossCall, asked: Outputs) -> tuple[Array, Tokens]:
    """Return row losses, recorded where something asks for it, and the numbers beside them."""
    arrays = arguments(call)
    if needs_logits(call, (*call.operands, *arrays)):
        return whole.tokens(held(call), asked)
    recorded = torch.is_grad_enabled() and any(a is not None and a.requires_grad for a in arrays)
    if torch.compiler.is_compiling():
        return _traced(call, asked)
    if not recorded:
        return _computed(call, asked)
    rows, *made = _Rows.apply(*arrays, without(call), asked)  # type: ignore[no-untyped-call]
    return rows, of_fields(made, asked)


def _computed(call: LossCall, asked: Outputs) -> tuple[Array, Tokens]:
    return default.tokens(call, asked, partial(run, call, ()))


class _Rows(linear._Linear):
    """Row losses, whose backward is that of the loss, and constants."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        *arrays, bare, asked = args
        call = with_arrays(bare, arrays)
        linear.keep(ctx, arrays, bare)
        rows, made = _computed(call, asked)
        constants = tuple(a for a in made if a is not None)
        ctx.mark_non_differentiable(*constants)
        return rows, *constants

    @staticmethod
    def backward(ctx: Any, *ups: Any) -> Any:
        return (*linear._Linear.backward(ctx, ups[0]), None)


def _traced(call: LossCall, asked: Outputs) -> tuple[Array, Tokens]:
    """Return the same by an operation that torch.compile keeps whole."""
    given = operation.arguments_of(call, [False] * len(NAMES))
    rows, *made = _operation(*given, asked.rank)
    return rows, of_fields((a.detach() for a in made), asked)


_RESULTS = ", ".join(["Tensor"] * (1 + len(Tokens._fields)))
_SCHEMA = f"{operation.SCHEMA.partition(') -> ')[0]}, bool rank) -> ({_RESULTS})"


@torch.library.custom_op("xloss::linear_token_stats", mutates_args=(), schema=_SCHEMA)
def _operation(*args: Any) -> Any:
    """Return row losses and the fields of Tokens; an empty rank where none is asked for."""
    *given, rank = args
    asked = Outputs(rows=True, tokens=True, entropy=True, rank=rank)
    rows, made = _computed(operation.described(*given)[0], asked)
    return rows, *made[:-1], made.rank if rank else rows.new_empty(0, dtype=torch.int64)


@_operation.register_fake
def _shapes(*args: Any) -> Any:
    x, rank = args[0], args[-1]
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    kinds = dict.fromkeys(("loss", *Tokens._fields[:-1]), dtype)
    kinds |= {"correct": torch.bool, "weight": torch.float64}
    rows = [x.new_empty(x.shape[:-1], dtype=kind) for kind in kinds.values()]
    return *rows, x.new_empty(x.shape[:-1] if rank else (0,), dtype=torch.int64)


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs[:9])
    ctx.options = inputs[10:-2]
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, *ups: Any) -> Any:
    wanted = list(ctx.needs_input_grad[:4])
    rest = (None,) * 16
    if ups[0] is None:
        return (None,) * 4 + rest
    arrays = ctx.saved_tensors
    grads = operation.operation(*arrays, ups[0], *ctx.options, wanted)[1:]
    cast = zip(grads, arrays, wanted, strict=False)
    return *(g.to(a.dtype) if w else None for g, a, w in cast), *rest


_operation.register_autograd(_backward, setup_context=_setup)
