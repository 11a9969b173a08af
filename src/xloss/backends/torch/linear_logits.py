"""PyTorch: linear cross-entropy on all logits at once, where something records operations."""

from __future__ import annotations

from typing import Any

import torch

from ..._arrays.context import functional
from ..._arrays.inspect import Array, is_wrapper
from ...core.call import LossCall
from ...core.linear import present_rows
from ...core.options import UNIT_COTANGENT
from ..eager.linear import NAMES
from . import backend as whole
from .following import transformed, transforming
from .linear_blocks import arguments, with_arrays


def needs_logits(call: LossCall, arrays: Any) -> bool:
    """Tell whether blocks cannot be written in place, because something records operations."""
    if torch.compiler.is_compiling():
        return transforming()
    wrapped = any(a is not None and is_wrapper(a) for a in arrays)
    return wrapped or not call.cx.inplace_ok or transformed(arrays)


def held(call: LossCall) -> LossCall:
    """Return the call on all logits at once, as torch.func and forward mode need it."""
    o, linear = call.operands, call.linear
    assert linear is not None
    cx = functional(call.cx)
    keep = present_rows(o, call.options, cx, call.classes, UNIT_COTANGENT)
    x, weight = cx.cast(o.x, cx.compute_dtype), cx.cast(linear.weight, cx.compute_dtype)
    if keep is not None:
        x = torch.where(keep.unsqueeze(-1), x, 0.0)
    z = x @ weight.mT
    if linear.bias is not None:
        z = z + cx.cast(linear.bias, cx.compute_dtype)
    return call._replace(operands=o._replace(x=z), linear=None)


def held_gradients(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and its gradients by way of the gradient to all logits."""
    given = dict(zip(NAMES, arguments(call), strict=True))

    def loss(*leaves: Array) -> Array:
        arrays = given | dict(zip(wanted, leaves, strict=True))
        return whole.value(held(with_arrays(call, arrays.values())))

    got, pull = torch.func.vjp(loss, *(given[name] for name in wanted))
    grads = pull(torch.ones_like(got) if cotangent is None else cotangent)
    return got, dict(zip(wanted, grads, strict=True))
