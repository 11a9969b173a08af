"""PyTorch: the sum or the mean of the row losses, and the gradient that belongs to it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch

from ..._arrays.context import Context, functional
from ..._arrays.inspect import Array, has_memory, is_wrapper
from ...core.call import LossCall
from ...core.family import SOFTMAX_KINDS
from ...core.options import OPERANDS, Cotangent, Operands, Outcome, Outputs, Saved
from ...engines import choose
from ..eager import dense as default
from . import gradient_ahead
from .numpy_views import home, numpy_call, with_numpy_views

# What a forward pass keeps for the backward pass, beside the operands.
NOTHING, STATS, GRADIENT = "nothing", "stats", "gradient"


class Made(NamedTuple):
    """What a forward pass leaves: tensors, but for a denominator that is a number."""

    value: Array
    weight: Any  # the mean's denominator
    stats: tuple[Array, ...] = ()
    gradient: Array | None = None  # for a cotangent of 1


def forward(call: LossCall, saves: str) -> Made:
    """Return the loss of plain tensors, and what its gradient can start from."""
    call = numpy_call(call) or call
    run = default.runner(call)
    weight = default.known_weight(call) if call.options.reduction == "mean" else 1.0
    if saves == GRADIENT:
        if weight is None:
            weight = run(Outputs(weight=True)).weight
        value, got = default.evaluated(call, run, Outputs(grad=True), None, weight)
    else:
        got = run(Outputs(total=True, weight=weight is None, stats=saves == STATS))
        weight = got.weight if weight is None else weight
        value = default.reduced(call, got.total, _denominator(call, weight))
    stats = tuple(map(home, got.stats or ()))
    gradient = None if got.grad is None else home(got.grad)
    return Made(home(value), _denominator(call, weight), stats, gradient)


def _denominator(call: LossCall, weight: Any) -> Any:
    return weight if call.options.reduction == "mean" else None


def backward(call: LossCall, cot: Array, weight: Any, stats: tuple[Array, ...]) -> Array:
    """Return the gradient to the logits, times the loss's cotangent."""
    if torch._C._functorch.is_legacy_batchedtensor(cot):  # whose memory no engine can read
        one = torch.ones((), dtype=call.cx.compute_dtype, device=call.operands.x.device)
        return (cot * backward(call, one, weight, stats)).to(call.operands.x.dtype)
    cot, cx = cotangent(cot, call.cx)
    call, cot, *known = with_numpy_views(call._replace(cx=cx), cot, *stats)
    run = partial(default.runner(call), saved=tuple(known) or None)
    return home(default.evaluated(call, run, Outputs(grad=True), cot, weight, value=False)[1].grad)


def cotangent(cotangent: Array, cx: Context) -> tuple[Array, Context]:
    """Return a cotangent that an engine can read, or the context of plain operations."""
    if cx.inplace_ok and not has_memory(cotangent):
        if is_wrapper(cotangent):
            return cotangent, functional(cx)
        cotangent = cotangent.clone().resolve_neg()  # a negated view; zeros without memory
    return cotangent, cx


def run(call: LossCall, outputs: Outputs, cot: Any = 1.0, saved: Saved = None) -> Outcome:
    """Compute the outputs of rows; on the host NumPy's operations beat torch's own."""
    if not isinstance(cot, float):
        cot, cx = cotangent(cot, call.cx)
        call = call._replace(cx=cx)
    call, cot, *known = with_numpy_views(call, cot, *(saved or ()))
    return choose(call).run(call, outputs, Cotangent(cot), tuple(known) or None).map(home)


class _Reduced(torch.autograd.Function):
    """The sum or the mean of the row losses; saves its inputs, two numbers a row of many classes.

    Its gradient is value_and_grad's, its second derivative that of the rows. Of few classes, whose
    gradient starts from nothing saved, the compiled engine gives it with the loss in one launch: it
    waits for the first backward, which returns it where the cotangent is 1.
    """

    @staticmethod
    def forward(ctx: Any, x: Any, call: LossCall, by_rows: Callable[[LossCall], Array]) -> Any:
        ctx.call, ctx.by_rows = call._replace(operands=Operands(None)), by_rows
        engine: Any = choose(call)
        if call.options.kind in SOFTMAX_KINDS and call.classes >= engine.save_stats_from:
            saves = STATS
        else:
            saves = GRADIENT if gradient_ahead.pays(engine, call.classes) else NOTHING
        made = forward(call, saves)
        ctx.weight, ctx.ahead = made.weight, made.gradient
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*call.operands, *made.stats)
        return made.value

    @staticmethod
    def backward(ctx: Any, cotangent: Any) -> Any:
        if cotangent is None:
            return None, None, None
        kept = ctx.saved_tensors  # activation checkpointing gives them once
        o, stats = Operands(*kept[:OPERANDS]), kept[OPERANDS:]
        ahead, ctx.ahead = ctx.ahead, None
        if ahead is not None and not torch.is_grad_enabled() and gradient_ahead.is_one(cotangent):
            return ahead, None, None
        call = ctx.call._replace(operands=o)
        if torch.is_grad_enabled():
            loss = ctx.by_rows(call)
            return torch.autograd.grad(loss, o.x, cotangent, create_graph=True)[0], None, None
        return backward(call, cotangent, ctx.weight, stats), None, None


def recorded(call: LossCall, by_rows: Callable[[LossCall], Array]) -> Array:
    """Return the loss, recorded by autograd.

    by_rows: what returns it in operations that autograd can follow to any order.
    """
    made: Array = _Reduced.apply(call.operands.x, call, by_rows)  # type: ignore[no-untyped-call]
    return made
