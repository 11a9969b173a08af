"""PyTorch: autograd around the two exchanges of a loss whose classes are spread over ranks."""

from __future__ import annotations

from typing import Any

import torch

from ..._arrays.inspect import Array
from ...core.call import LossCall
from ...core.row_stats import RowStats
from ...core.targets import Targets
from ..eager import sharded as exchange
from .numpy_views import home, with_numpy_views

TWICE = (
    "vocab_parallel_cross_entropy: second derivatives are not offered, for they need the other "
    "ranks; cross_entropy of all logits has them"
)


def value(call: LossCall) -> Array:
    """Return the loss, recorded by autograd where something asks for it."""
    if torch.is_grad_enabled() and call.operands.x.requires_grad:
        made: Array = _Spread.apply(call.operands.x, call)  # type: ignore[no-untyped-call]
        return made
    with torch.no_grad():
        (call,) = with_numpy_views(call)
        return home(exchange.reduced(call, exchange.forward(call)))


def value_and_grad(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the closed-form gradient, recorded by no autodiff."""
    with torch.no_grad():
        call, cotangent = with_numpy_views(call, cotangent)
        made = exchange.forward(call)
        grad = exchange.gradient(call, made, cotangent)
        return home(exchange.reduced(call, made)), {"x": home(grad)}


class _Spread(torch.autograd.Function):
    """The loss of this rank's slice and the others'; saves the slice and O(rows) numbers."""

    @staticmethod
    def forward(ctx: Any, x: Any, call: LossCall) -> Any:
        given = call.operands
        (viewed,) = with_numpy_views(call)
        made = exchange.forward(viewed)
        # Tensors go through autograd, which sees whether they were written to since.
        kept = (*made.stats, *made.targets)
        tensors = [a for a in kept if hasattr(a, "dtype")]
        ctx.save_for_backward(x, *map(home, tensors))
        ctx.rest = [None if hasattr(a, "dtype") else (a,) for a in kept]
        ctx.call = call._replace(operands=given._replace(x=None, targets=None))
        ctx.set_materialize_grads(False)
        return home(exchange.reduced(viewed, made))

    @staticmethod
    def backward(ctx: Any, *ups: Any) -> Any:
        cotangent = ups[0]
        if cotangent is None:
            return None, None
        if torch.is_grad_enabled():
            raise RuntimeError(TWICE)
        x, *tensors = ctx.saved_tensors
        o = ctx.call.operands._replace(x=x)
        call, cotangent, *tensors = with_numpy_views(
            ctx.call._replace(operands=o), cotangent, *tensors
        )
        taken = iter(tensors)
        kept = [next(taken) if a is None else a[0] for a in ctx.rest]
        size = len(RowStats._fields)
        made = exchange.Made(None, RowStats(*kept[:size]), Targets(*kept[size:]))
        return home(exchange.gradient(call, made, cotangent)), None
