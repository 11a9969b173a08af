"""PyTorch: autograd around the two exchanges of a loss whose classes are spread over ranks."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

from ..._arrays.inspect import Array
from ...core.call import LossCall
from ...core.options import Operands
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
        (viewed,) = with_numpy_views(call)
        made = exchange.forward(viewed)
        # Autograd sees whether what is saved through it was written to since.
        ctx.save_for_backward(*call.operands)
        leaves, ctx.spec = tree_flatten(made._replace(rows=None))
        ctx.leaves = [home(a) if hasattr(a, "dtype") else a for a in leaves]
        ctx.call = call._replace(operands=Operands(None))
        return home(exchange.reduced(viewed, made))

    @staticmethod
    def backward(ctx: Any, cotangent: Any) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(TWICE)
        call = ctx.call._replace(operands=Operands(*ctx.saved_tensors))
        call, cotangent, *leaves = with_numpy_views(call, cotangent, *ctx.leaves)
        made = tree_unflatten(leaves, ctx.spec)
        return home(exchange.gradient(call, made, cotangent)), None
