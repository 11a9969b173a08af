"""A mean or a sum on a GPU as one operation of PyTorch's, which torch.compile keeps whole.

The rows as an operation and the rest in the compiler's own kernels would launch a dozen of those,
each for a number a row at most: the host would take longer than the GPU takes for all logits.
The gradient is a second operation. It starts from two numbers a row: an operation cannot return in
the backward pass, without a copy, what another has made in the forward pass.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor

from ...core.call import LossCall
from ...engines import choose
from ...engines.cuda import engine as cuda
from ..eager import dense as default
from . import autograd as torch_reduced
from . import custom_op
from .autograd import NOTHING
from .custom_op import CALL_ARRAYS, CALL_OPTIONS


def takes(call: LossCall) -> bool:
    """Tell whether a traced call is kept whole, whatever its lengths: some may be unknown."""
    return call.options.reduction != "none" and custom_op.takes(call)


def value(call: LossCall) -> Tensor:
    """Return the loss of a call that is taken."""
    keeps = torch.is_grad_enabled() and call.operands.x.requires_grad
    loss: Tensor = cuda_cross_entropy(*custom_op.call_arguments(call), keeps)[0]
    return loss


@torch.library.custom_op(
    "xloss::cuda_cross_entropy",
    mutates_args=(),
    schema=f"({CALL_ARRAYS}, {CALL_OPTIONS}, bool keeps) -> (Tensor, Tensor)",
)
def cuda_cross_entropy(*arguments: Any) -> tuple[Tensor, Tensor]:
    """Return the loss, and if `keeps` what its gradient starts from."""
    *given, keeps = arguments
    call = custom_op.described_call(given)
    kept = None
    if _reduced(call):
        loss, _, kept = cuda.reduced(call, grad=False, keep=keeps)
    else:  # no row, or another engine is asked for where the graph runs
        loss = torch_reduced.forward(call, NOTHING).value
    return loss, _no_statistics(call.operands.x, keeps) if kept is None else kept


@torch.library.custom_op(
    "xloss::cuda_cross_entropy_gradient",
    mutates_args=(),
    schema=f"(Tensor up, Tensor kept, {CALL_ARRAYS}, {CALL_OPTIONS}) -> Tensor",
)
def cuda_cross_entropy_gradient(cotangent: Tensor, kept: Tensor, *given: Any) -> Tensor:
    """Return the gradient to x times the cotangent, from what the loss kept."""
    call = custom_op.described_call(given)
    if _reduced(call):
        cotangent, _ = torch_reduced.cotangent(cotangent, call.cx)
        made = cuda.again(call, call.operands[:5], cotangent, kept, None)
    else:
        made = torch_reduced.backward(call, cotangent, None, ())
    return custom_op.laid(made, call.operands.x, custom_op.like_on_gpu)


def _reduced(call: LossCall) -> bool:
    return default.reduces(choose(call), call)


def _no_statistics(x: Tensor, keeps: bool) -> Tensor:
    """Return zeros in place of what the engine keeps: the graph holds an array of that size."""
    return x.new_zeros(2 + 2 * prod(x.shape[:-1]) if keeps else 0, dtype=torch.float64)


@cuda_cross_entropy.register_fake
def _like(x: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    acc = torch.float64 if x.dtype == torch.float64 else torch.float32
    return x.new_empty((), dtype=acc), _no_statistics(x, others[-1])


@cuda_cross_entropy_gradient.register_fake
def _like_x(cotangent: Tensor, kept: Tensor, x: Tensor, *_: Any) -> Tensor:
    return custom_op.like_on_gpu(x)


custom_op.differentiable(cuda_cross_entropy, cuda_cross_entropy_gradient, 6, -1)
