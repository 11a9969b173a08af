"""PyTorch: autograd around the two exchanges of a loss whose classes are spread over ranks."""

from __future__ import annotations

from typing import Any

import torch

from .._xp import Array
from ..core.rowstats import RowStats
from ..core.targets import Targets
from . import exchange, torch_views
from .call import Call

TWICE = (
    "vocab_parallel_cross_entropy: second derivatives are not offered, for they need the other "
    "ranks; cross_entropy of all logits has them"
)


def value(call: Call) -> Array:
    """Return the loss, recorded by autograd where something asks for it."""
    if torch.is_grad_enabled() and call.operands.x.requires_grad:
        made: Array = _Spread.apply(call.operands.x, call)  # type: ignore[no-untyped-call]
        return made
    with torch.no_grad():
        call = _seen(call)
        return torch_views.home(exchange.reduced(call, exchange.forward(call)))


def value_and_grad(
    call: Call, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the closed-form gradient, recorded by no autodiff."""
    with torch.no_grad():
        call = _seen(call)
        made = exchange.forward(call)
        if cotangent is not None and call.cx.library == "numpy":
            cotangent = torch_views.view(cotangent)
        grad = exchange.gradient(call, made, cotangent)
        return torch_views.home(exchange.reduced(call, made)), {"x": torch_views.home(grad)}


def _seen(call: Call) -> Call:
    """Return the call on NumPy views of its tensors where they have them."""
    return torch_views.numpy_call(call) or call


class _Spread(torch.autograd.Function):
    """The loss of this rank's slice and the others'; saves the slice and O(rows) numbers."""

    @staticmethod
    def forward(ctx: Any, x: Any, call: Call) -> Any:
        given = call.operands
        seen = _seen(call)
        made = exchange.forward(seen)
        # Tensors go through autograd, which sees whether they were written to since.
        kept = (*made.stats, *made.targets)
        tensors = [a for a in kept if hasattr(a, "dtype")]
        ctx.save_for_backward(x, *map(torch_views.home, tensors))
        ctx.rest = [None if hasattr(a, "dtype") else (a,) for a in kept]
        ctx.call = call._replace(operands=given._replace(x=None, targets=None))
        ctx.set_materialize_grads(False)
        return torch_views.home(exchange.reduced(seen, made))

    @staticmethod
    def backward(ctx: Any, *ups: Any) -> Any:
        up = ups[0]
        if up is None:
            return None, None
        if torch.is_grad_enabled():
            raise RuntimeError(TWICE)
        x, *tensors = ctx.saved_tensors
        o = ctx.call.operands._replace(x=x)
        call = _seen(ctx.call._replace(operands=o))
        if call.cx.library == "numpy":
            up, tensors = torch_views.view(up), [torch_views.view(a) for a in tensors]
        taken = iter(tensors)
        kept = [next(taken) if a is None else a[0] for a in ctx.rest]
        size = len(RowStats._fields)
        made = exchange.Made(None, RowStats(*kept[:size]), Targets(*kept[size:]))
        return torch_views.home(exchange.gradient(call, made, up)), None
