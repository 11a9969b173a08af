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
from ...engines.cuda import relaunch
from .. import fingerprints
from ..eager import dense as default
from . import gradient_ahead, row_losses

_NOTHING = Operands(None)
_wrapped = torch._C._functorch.is_functorch_wrapped_tensor
_batched = torch._C._functorch.is_legacy_batchedtensor
_transforms = torch._C._functorch.peek_interpreter_stack
_modes = torch._C._len_torch_dispatch_stack
_keys = torch._C._dispatch_keys

# The dispatch keys of tensors that `_is_plain` has found to be plain, each set of them as a number.
# Whatever hides the values of a tensor of PyTorch's own class, a negation or a wrapper, is a key.
_plain_keys: set[int] = set()


def look(x: Array, t: Array) -> Hashable | None:
    """Return the fingerprint of a call on plain GPU tensors; None for any other call."""
    if type(t) is not torch.Tensor or _modes() or _transforms() is not None or not on_gpu(x):
        return None
    if not (_is_plain(x) and _is_plain(t) and x.is_contiguous() and t.is_contiguous()):
        return None
    return x.dtype, x.shape, x.get_device(), t.dtype, t.shape, t.get_device()


def _is_plain(x: Array) -> bool:
    """Tell whether a tensor of PyTorch's own class has its values in its memory.

    A dispatch mode or a transformation of torch.func may hide them still.
    """
    keys = _keys(x).raw_repr()
    if keys in _plain_keys:
        return True
    if not has_memory(x) or _wrapped(x) or _batched(x) or torch._is_functional_tensor(x):
        return False
    _plain_keys.add(keys)
    return True


def on_gpu(x: Array) -> bool:
    """Tell whether a tensor is on a GPU."""
    return bool(x.is_cuda)


fingerprints.looks[torch.Tensor] = fingerprints.looks[torch.nn.Parameter] = look


def value(call: LossCall) -> Array | None:
    """Return the reduced loss of a call that has a memory, recorded if its logits are.

    None where the engine does not compute it, or targets are recorded or tangents followed.
    """
    assert call.memory is not None
    reduces = call.memory.get("reduces")
    if reduces is None:
        engine = choose(call)
        reduces = call.memory["reduces"] = default.reduces(engine, call)
    if not reduces or forward_ad._current_level >= 0:
        return None
    x, t = call.operands[:2]
    if torch.is_grad_enabled():
        if t is not None and t.requires_grad:
            return None
        if x.requires_grad:
            return recorded(call)
    return cuda.reduced(call, grad=False, keep=False)[0]


def recorded(call: LossCall) -> Array:
    """Return the loss, recorded by autograd."""
    return _apply(call.operands.x, call, gradient_ahead.unpacked())


def value_and_grad(call: LossCall) -> tuple[Array, Array] | None:
    """Return the loss and its gradient for a cotangent of 1; None for a call unlike earlier ones.

    Nothing is recorded, though gradients may be enabled: to switch them off takes as long as this.
    """
    o = call.operands
    known = relaunch.reduced(call.memory, o.x, o.targets, True, False) if call.memory else None
    return None if known is None else known[:2]


def _without_arrays(call: LossCall) -> LossCall:
    memory = call.memory
    if memory is None:
        return call.of(_NOTHING)
    bare: LossCall | None = memory.get("without arrays")
    if bare is None:
        bare = memory["without arrays"] = call.of(_NOTHING)
    return bare


class _Loss(torch.autograd.Function):
    """The sum or the mean of the row losses, with the gradient for a cotangent of 1 computed ahead.

    The first backward consumes that gradient: a kernel reads the cotangent on the GPU and, where it
    is not 1, computes the gradient anew in the same memory. Later backwards compute it from the
    logits and two numbers a row. The bits are the same in every case.
    """

    @staticmethod
    def forward(ctx: Any, x: Any, call: LossCall, ahead: bool) -> Any:
        loss, ctx.ahead, kept = cuda.reduced(call, grad=ahead, keep=True)
        ctx.call = _without_arrays(call)
        ctx.set_materialize_grads(False)
        arrays = call.operands[:5] if call.memory is None else call.operands[:2]
        ctx.save_for_backward(kept, *arrays)
        return loss

    @staticmethod
    def backward(ctx: Any, cotangent: Any) -> Any:
        if cotangent is None:
            return None, None, None
        kept, *arrays = ctx.saved_tensors  # to be read once, under activation checkpointing
        call = ctx.call
        if torch.is_grad_enabled():
            call = call.of(Operands(*arrays))
            loss = row_losses.value(call)
            slope = torch.autograd.grad(loss, call.operands.x, cotangent, create_graph=True)[0]
            return slope, None, None
        if _wrapped(cotangent) or _batched(cotangent):
            # A batch of cotangents, whose memory no kernel can read.
            x, call = arrays[0], call._replace(memory=None)
            one = torch.ones((), dtype=call.cx.compute_dtype, device=x.device)
            gradient = cuda.again(call, arrays, one, kept, None)
            return (cotangent * gradient).to(x.dtype), None, None
        if cotangent.is_neg() or cotangent._is_zerotensor():  # its memory does not hold its values
            cotangent = cotangent.clone().resolve_neg()
        ahead, ctx.ahead = ctx.ahead, None
        return cuda.again(call, arrays, cotangent, kept, ahead), None, None


# Skips Function.apply, which first looks for functorch's wrappers: these operands have none.
_apply: Callable[..., Array] = super(torch.autograd.Function, _Loss).apply
