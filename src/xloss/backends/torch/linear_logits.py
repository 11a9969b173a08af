"""PyTorch: linear cross-entropy on all logits at once, where something records operations."""

from __future__ import annotations

from typing import Any

import torch

from ..._arrays.context import functional
from ..._arrays.inspect import Array, is_wrapper
from ...core.call import LossCall
from ...core.linear import present_rows
from ...core.options import UNIT_COTANGENT
from ..eager.linear import rounded
from . import backend as whole
from .following import transformed, transforming


def needs_logits(call: LossCall, arrays: Any) -> bool:
    """Tell whether blocks cannot be written in place, because something records operations."""
    if torch.compiler.is_compiling():
        return transforming()
    wrapped = any(a is not None and is_wrapper(a) for a in arrays)
    return wrapped or not call.cx.inplace_ok or transformed(arrays)


def held(call: LossCall) -> LossCall:
    """Return the call on all logits at once, as torch.func and forward mode need it."""
    o = call.operands._replace(x=_products(call)[3])
    return call._replace(operands=o, linear=None)


def _products(call: LossCall) -> tuple[Array | None, Array, Array, Array]:
    """Return which rows are present, the features, the weight and the logits."""
    o, linear = call.operands, call.linear
    assert linear is not None
    cx = functional(call.cx)
    keep = present_rows(o, call.options, cx, call.classes, UNIT_COTANGENT)
    keep = None if keep is None else keep.unsqueeze(-1)
    x, weight = cx.cast(o.x, cx.compute_dtype), cx.cast(linear.weight, cx.compute_dtype)
    if keep is not None:
        x = torch.where(keep, x, 0.0)
    z = x @ weight.mT
    if linear.bias is not None:
        z = z + cx.cast(linear.bias, cx.compute_dtype)
    return keep, x, weight, z


def held_gradients(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and its gradients by way of the gradient to all logits."""
    keep, x, weight, z = _products(call)
    o, cx = call.operands._replace(x=z), functional(call.cx)
    inner = tuple({name if name == "targets" else "x" for name in wanted})
    got, grads = whole.value_and_grad(
        call._replace(operands=o, linear=None, cx=cx), inner, cotangent
    )
    if "x" in grads:
        g = grads.pop("x")
        features = g @ weight
        rows, flat = x.reshape(-1, x.shape[-1]), g.reshape(-1, call.classes)
        made = {
            "x": features if keep is None else torch.where(keep, features, 0.0),
            "weight": flat.mT @ rows,
            "bias": torch.sum(flat, 0, dtype=cx.sum_dtype),
        }
        grads |= {name: made[name] for name in wanted if name != "targets"}
    return got, rounded(call, grads)
