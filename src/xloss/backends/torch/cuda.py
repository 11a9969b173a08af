"""PyTorch on a GPU: a mean or a sum, and its gradient in the same pass over the logits."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch.autograd import forward_ad

from ..._arrays.inspect import Array, has_memory
from ...core.call import LossCall
from ...core.options import Operands
from ...engines import choose
from ...engines.cuda import engine as cuda
from .. import fingerprints
from ..eager import dense as default

ByRows = Callable[[LossCall], Array]

_NOTHING = Operands(None)
_wrapped = torch._C._functorch.is_functorch_wrapped_tensor
_batched = torch._C._functorch.is_legacy_batchedtensor
# With saved-tensor hooks (activation checkpointing, offloading) a gradient kept beside the saved
# tensors would defeat their purpose. PyTorch has no public way to ask, and none before 2.8.
_packs = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)


def look(x: Array, t: Array) -> Hashable | None:
    """Return the fingerprint of a call on plain GPU tensors; None for any other call."""
    if not on_gpu(x) or type(t) is not torch.Tensor:
        return None
    for a in (x, t):
        if (
            not has_memory(a)
            or not a.is_contiguous()
            or _wrapped(a)
            or torch._is_functional_tensor(a)
        ):
            return None
    return x.dtype, x.shape, x.device, t.dtype, t.shape, t.device


def on_gpu(x: Array) -> bool:
    """Tell whether a tensor is on a GPU."""
    return bool(x.is_cuda)


fingerprints.looks[torch.Tensor] = fingerprints.looks[torch.nn.Parameter] = look


def takes(call: LossCall) -> bool:
    """Tell whether the engine computes the reduced loss of a call that has a memory."""
    assert call.memory is not None
    reduces = call.memory.get("reduces")
    if reduces is None:
        engine = choose(call.operands, call.options, call.cx)
        reduces = call.memory["reduces"] = default.reduces(engine, call)
    t = call.operands.targets
    recorded = t is not None and t.requires_grad and torch.is_grad_enabled()
    return reduces and not recorded and forward_ad._current_level < 0


def value(call: LossCall, by_rows: ByRows) -> Array:
    """Return the loss of a call that `takes` accepted; recorded if the logits require a gradient.

    by_rows: what returns it in operations that autograd can follow to any order.
    """
    o = call.operands
    if o.x.requires_grad and torch.is_grad_enabled():
        return recorded(call, by_rows)
    return cuda.reduced(call, grad=False, keep=False)[0]


def recorded(call: LossCall, by_rows: ByRows) -> Array:
    """Return the loss, recorded by autograd."""
    ahead = _packs is not None and _packs(True) is None
    return _apply(call.operands.x, call, ahead, by_rows)


class _Loss(torch.autograd.Function):
    """The sum or the mean of the row losses, with the gradient for a cotangent of 1 computed ahead.

    The first backward consumes that gradient: a kernel reads the cotangent on the GPU and, where it
    is not 1, computes the gradient anew in the same memory. Later backwards compute it from the
    logits and two numbers a row. The bits are the same in every case.
    """

    @staticmethod
    def forward(ctx: Any, x: Any, call: LossCall, ahead: bool, by_rows: ByRows) -> Any:
        o = call.operands
        loss, ctx.ahead, kept = cuda.reduced(call, grad=ahead, keep=True)
        ctx.call, ctx.by_rows = call.of(_NOTHING), by_rows
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*o[:5], kept)
        return loss

    @staticmethod
    def backward(ctx: Any, cotangent: Any) -> Any:
        none = (None,) * 3
        if cotangent is None:
            return None, *none
        *arrays, kept = ctx.saved_tensors  # to be read once, under activation checkpointing
        o, call = Operands(*arrays), ctx.call
        if torch.is_grad_enabled():
            loss = ctx.by_rows(call.of(o))
            return torch.autograd.grad(loss, o.x, cotangent, create_graph=True)[0], *none
        if _wrapped(cotangent) or _batched(cotangent):
            # A batch of cotangents, whose memory no kernel can read.
            one = torch.ones((), dtype=call.cx.compute_dtype, device=o.x.device)
            gradient = cuda.again(o, call.options, call.cx, call.classes, one, kept, None)
            return (cotangent * gradient).to(o.x.dtype), *none
        if cotangent.is_neg() or cotangent._is_zerotensor():  # its memory does not hold its values
            cotangent = cotangent.clone().resolve_neg()
        ahead, ctx.ahead = ctx.ahead, None
        got = cuda.again(
            o, call.options, call.cx, call.classes, cotangent, kept, ahead, call.memory
        )
        return got, *none


# Skips Function.apply, which first looks for functorch's wrappers: these operands have none.
_apply: Callable[..., Array] = super(torch.autograd.Function, _Loss).apply
