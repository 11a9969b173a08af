"""Linear cross-entropy on PyTorch: gradients computed in forward, scaled in backward."""

from __future__ import annotations

from functools import partial
from math import isfinite
from typing import Any

import torch

from ..._arrays.context import Context
from ..._arrays.inspect import Array
from ...core.call import LossCall
from ...core.linear import WEIGHT_CHUNK, spans
from ...core.options import Outputs
from ...core.token_stats import Tokens, of_fields
from ..eager import dense as default
from ..eager.linear import NAMES, TWICE, evaluated, rounded
from . import backend as whole
from . import linear_operation as operation
from .following import transformed
from .linear_blocks import arguments, run, with_arrays, without
from .linear_logits import held, held_gradients, needs_logits


def value(call: LossCall) -> Array:
    """Return the loss, recorded by autograd where something asks for it."""
    arrays = arguments(call)
    every: Any = (*call.operands, *arrays)
    if call.group is not None and transformed(every):
        raise RuntimeError("group: not under forward-mode autodiff")
    if needs_logits(call, every):
        return whole.value(held(call))
    if torch.compiler.is_compiling():
        return operation.value(call, arrays, _recorded(arrays))
    if not _recorded(arrays):
        return default.value(call, partial(run, call, ()))
    made: Array = _Linear.apply(*arrays, without(call), None)  # type: ignore[no-untyped-call]
    return made


def _recorded(arrays: tuple[Any, ...]) -> bool:
    """Tell whether autograd records what is made of arrays."""
    return torch.is_grad_enabled() and any(a is not None and a.requires_grad for a in arrays)


def value_and_grad(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the closed-form gradients, recorded by no autodiff."""
    with torch.no_grad():
        if call.group is None:
            if needs_logits(call, (*call.operands, *arguments(call))):
                return held_gradients(call, wanted, cotangent)
            if torch.compiler.is_compiling():
                return operation.value_and_grad(call, wanted, cotangent)
        got, grads = evaluated(call, partial(run, call), wanted, cotangent)
        return got, rounded(call, grads)


class _Linear(torch.autograd.Function):
    """The loss; for a mean or a sum also the gradients, for a cotangent of 1.

    Where statistics are asked for, row losses, and those as constants.
    """

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        *arrays, bare, asked = args
        call = with_arrays(bare, arrays)
        ctx.bare, ctx.grads = bare, None
        ctx.wanted = tuple(n for n, w in zip(NAMES, ctx.needs_input_grad, strict=False) if w)
        ctx.save_for_backward(*arrays)
        ctx.set_materialize_grads(False)
        if asked is not None:
            rows, made = default.tokens(call, asked, partial(run, call, ()))
            constants = tuple(a for a in made if a is not None)
            ctx.mark_non_differentiable(*constants)
            return rows, *constants
        if call.options.reduction == "none":
            return default.value(call, partial(run, call, ()))
        got, ctx.grads = evaluated(call, partial(run, call), ctx.wanted, None)
        return got

    @staticmethod
    def backward(ctx: Any, *ups: Any) -> Any:
        if ups[0] is None:
            return (None,) * 6
        arrays = ctx.saved_tensors
        made, ctx.grads = ctx.grads, None  # they are scaled in place, which is possible once
        grads = _Gradients.apply(ups[0], *arrays, ctx.bare, ctx.wanted, made)  # type: ignore[no-untyped-call]
        named = dict(zip(ctx.wanted, grads, strict=True))
        return (*(named.get(name) for name in NAMES), None, None)


class _Gradients(torch.autograd.Function):
    """The gradients times the cotangent: a Function of its own, because it has no derivative."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        cotangent, *arrays, bare, wanted, grads = args
        call = with_arrays(bare, arrays)
        if grads is not None and not (call.cx.on_host and not isfinite(float(cotangent))):
            grads = {name: _scaled(g, cotangent, call.cx) for name, g in grads.items()}
        else:
            # Of row losses; in a second backward through a retained graph; or an infinite
            # cotangent, which must not be multiplied by gradients of 0.
            grads = evaluated(call, partial(run, call), wanted, cotangent, value=False)[1]
        return tuple(rounded(call, grads)[name] for name in wanted)

    @staticmethod
    def backward(ctx: Any, *ups: Any) -> Any:
        raise RuntimeError(TWICE)


def _scaled(g: Array, cotangent: Array, cx: Context) -> Array:
    """Return g times the cotangent, in place where possible: a copy would pass over the weight."""
    if cx.on_host and float(cotangent) == 1:
        return g
    if g.dtype in (torch.float32, torch.float64):
        return g.mul_(cotangent)
    # As a 0-d tensor the cotangent would be rounded to the 16 bits of g before it multiplies. On
    # the host PyTorch makes the product in float32 first: some rows at a time keep that small.
    cotangent, flat = cotangent.reshape(1), g.view(-1)
    for c in spans(flat.shape[0], WEIGHT_CHUNK if cx.on_host else flat.shape[0]):
        torch.mul(flat[c], cotangent, out=flat[c])
    return g


def tokens(call: LossCall, asked: Outputs) -> tuple[Array, Tokens]:
    """Return row losses, recorded where something asks for it, and the numbers beside them."""
    arrays = arguments(call)
    if needs_logits(call, (*call.operands, *arrays)):
        return whole.tokens(held(call), asked)
    if torch.compiler.is_compiling():
        return operation.tokens(call, asked)
    if not _recorded(arrays):
        return default.tokens(call, asked, partial(run, call, ()))
    rows, *made = _Linear.apply(*arrays, without(call), asked)  # type: ignore[no-untyped-call]
    return rows, of_fields(made, asked)
