"""PyTorch: autograd to any order, torch.func, torch.compile, around the engine's rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..._arrays.context import functional
from ..._arrays.inspect import Array
from ...core import softmax
from ...core.call import LossCall
from ...core.options import Operands, Outputs
from ...core.targets import prepare, total_weight
from ...core.token_stats import Tokens, mapped
from ...engines import choose
from ...engines.cpu import thread_pool
from ..eager import dense as default
from . import autograd as torch_reduced
from . import cuda as torch_cuda
from . import custom_op, row_losses
from .following import followed, functionalized, refuse_second, transformed, transforming
from .numpy_views import home, numpy_call, tensor, with_numpy_views
from .softmax_rules import softmax_parts

thread_pool.LIMITS["torch"] = torch.get_num_threads


def value(call: LossCall) -> Array:
    """Return the loss, recorded by autograd where something asks for it."""
    if call.memory is not None:
        loss = torch_cuda.value(call)
        if loss is not None:
            return loss
    return _choose(call)(call)


def _choose(call: LossCall) -> Callable[[LossCall], Array]:
    """Choose one of four ways to the loss, by who follows the call and where its arrays are."""
    o = call.operands
    compiling = torch.compiler.is_compiling()
    if compiling:
        refuse_second("torch.compile")
        if custom_op.takes(call):
            return _traced if transforming() else custom_op.value
    recorded = torch.is_grad_enabled() and (
        o.x.requires_grad or (o.targets is not None and o.targets.requires_grad)
    )
    if compiling:
        return _traced if recorded else _unrecorded
    if not transformed(o):
        if not recorded:
            return _unrecorded
        # Inside torch.func a Function with a context of its own fails, even if it follows others.
        of_rows = call.options.reduction == "none" or transforming()
        if not of_rows and (o.targets is None or not o.targets.requires_grad):
            return _reduction_recorded
    elif functionalized():
        return _traced
    return row_losses.value


def _traced(call: LossCall) -> Array:
    """Return the loss in operations that a compiler traces: no autograd.Function."""
    return row_losses.value(call, traced=True)


def _unrecorded(call: LossCall) -> Array:
    """Return the loss where nothing records it: by the engine, on NumPy views where it can be."""
    on_numpy = numpy_call(call)
    return default.value(call) if on_numpy is None else tensor(default.value(on_numpy))


def _reduction_recorded(call: LossCall) -> Array:
    """Return a mean or a sum as one step of autograd, whose backward is the closed form."""
    if default.reduces(choose(call), call):
        return torch_cuda.recorded(call)
    return torch_reduced.recorded(call, row_losses.value)


def value_and_grad(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the closed-form gradients, recorded by no autodiff."""
    if cotangent is None and wanted == ("x",):
        known = torch_cuda.value_and_grad(call)
        if known is not None:
            return known[0], default.named(call, known[1], None)
    with torch.no_grad():
        if wanted == ("x",) and custom_op.takes(call):
            got, grad = custom_op.value_and_grad(call, cotangent)
            return got, default.named(call, grad, None)
        call, cotangent = with_numpy_views(call, cotangent)
        got, grads = default.value_and_grad(call, wanted, cotangent)
        return home(got), {name: home(g) for name, g in grads.items()}


def tokens(call: LossCall, asked: Outputs) -> tuple[Array, Tokens]:
    """Return row losses, recorded where something asks for it, and the numbers beside them."""
    way = _choose(call)
    if way is row_losses.value:
        return row_losses.tokens(call, asked)
    if way is not _unrecorded:  # something traces: its compiler fuses what both have in common
        fixed = (None if a is None else a.detach() for a in call.operands)
        apart = call._replace(operands=Operands(*fixed), cx=functional(call.cx))
        return way(call), default.tokens(apart, asked)[1]
    (call,) = with_numpy_views(call)
    rows, made = default.tokens(call, asked)
    return home(rows), mapped(home, made)


def elements(call: LossCall) -> Array:
    """Return softmax or its logarithm, recorded by autograd where something asks for it."""
    x, cx = call.operands.x, call.cx
    compiling = torch.compiler.is_compiling()
    if compiling:
        refuse_second("torch.compile")
    recorded = torch.is_grad_enabled() and x.requires_grad
    if not recorded and not transformed(call.operands):
        return default.elements(call)
    choose(call)
    logarithm = call.options.kind == "log_softmax"
    z = cx.cast(x, cx.compute_dtype)
    if compiling or (followed(call.operands) and functionalized()):
        # The value is ours, the derivative that of the compiler's own softmax.
        twin = torch.log_softmax(z, -1) if logarithm else torch.softmax(z, -1)
        mine = softmax.parts(z.detach(), functional(cx))
        slope = torch.where(torch.isfinite(twin), twin - twin.detach(), 0.0)
        return default.restore(call, (-mine.nll if logarithm else mine.p) + slope)
    got = softmax_parts(z)
    return default.restore(call, -got.nll if logarithm else got.p)


def weight(call: LossCall) -> Array:
    """Return the mean's denominator; a sum of soft targets is recorded where they are."""
    o, cx = call.operands, call.cx
    if o.targets is None or not (o.targets.requires_grad and torch.is_grad_enabled()):
        return default.weight(call)
    t = prepare(o, call.options, functional(cx), call.classes)
    return total_weight(t, 0, functional(cx))
