"""PyTorch on a GPU: a mean or a sum whose gradient is computed with it, in the same pass."""

from __future__ import annotations

from typing import Any

import torch

from .._xp import Array
from ..core.spec import Operands
from ..engines import cuda
from .call import Call

# Where someone packs what autograd saves (activation checkpointing, offloading), a gradient kept
# beside it would defeat the purpose. PyTorch has no public way to ask.
_packs = torch._C._autograd._top_saved_tensors_default_hooks


def value(call: Call) -> Array:
    """Return the loss, recorded by autograd."""
    o = call.operands
    ahead = _packs(True) is None
    return _Loss.apply(*o[:5], call._replace(operands=Operands(None)), ahead)  # type: ignore[no-untyped-call]  # torch's


class _Loss(torch.autograd.Function):
    """The sum or the mean of the row losses; its gradient for an upstream of 1 waits for backward.

    The first backward uses that up: the GPU itself looks whether the upstream is 1 and, where it
    is not, computes the gradient anew in its place. Any other backward computes it anew, from the
    logits and two numbers a row. So the bits never depend on what was computed ahead.
    """

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        o, call, ahead = Operands(*args[:5]), args[5], args[6]
        loss, grad, kept = cuda.recorded(
            o, call.spec, call.cx, call.classes, call.normalizer, ahead
        )
        ctx.call, ctx.ahead = call, grad
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*args[:5], kept)
        return loss

    @staticmethod
    def backward(ctx: Any, up: Any) -> Any:
        none = (None,) * 6
        if up is None:
            return None, *none
        *arrays, kept = ctx.saved_tensors  # activation checkpointing gives them once
        o, call = Operands(*arrays), ctx.call
        if torch.is_grad_enabled():
            from .torch import by_rows

            loss = by_rows(call._replace(operands=o))
            return torch.autograd.grad(loss, o.x, up, create_graph=True)[0], *none
        grad, ctx.ahead = ctx.ahead, None
        return cuda.again(o, call.spec, call.cx, call.classes, up, kept, grad), *none
