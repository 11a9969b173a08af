"""PyTorch: the sum or the mean of the row losses, and the gradient that belongs to it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch

from .._xp import Array, Context, functional, has_memory, is_wrapper
from ..core.rows import SOFTMAX
from ..core.spec import Need, Operands
from ..engines import choose
from . import default, torch_ahead
from .call import Call
from .torch_views import home, numpy_call, view

# What a forward pass keeps for the backward pass, beside the operands.
NOTHING, STATS, GRADIENT = "nothing", "stats", "gradient"


class Made(NamedTuple):
    """What a forward pass leaves: tensors, but for a denominator that is a number."""

    value: Array
    weight: Any  # the mean's denominator
    stats: tuple[Array, ...] = ()
    gradient: Array | None = None  # for a cotangent of 1


def forward(call: Call, saves: str) -> Made:
    """Return the loss of plain tensors, and what its gradient can start from."""
    call = numpy_call(call) or call
    run = default.runner(call)
    weight = default.known_weight(call) if call.spec.reduction == "mean" else 1.0
    if saves == GRADIENT:
        if weight is None:
            weight = run(Need(weight=True)).weight
        value, got = default.evaluated(call, run, Need(grad=True), None, weight)
    else:
        got = run(Need(total=True, weight=weight is None, stats=saves == STATS))
        weight = got.weight if weight is None else weight
        value = default.reduced(call, got.total, _denominator(call, weight))
    stats = tuple(map(home, got.stats or ()))
    gradient = None if got.grad is None else home(got.grad)
    return Made(home(value), _denominator(call, weight), stats, gradient)


def _denominator(call: Call, weight: Any) -> Any:
    return weight if call.spec.reduction == "mean" else None


def backward(call: Call, up: Array, weight: Any, stats: tuple[Array, ...]) -> Array:
    """Return the gradient to the logits, times the loss's cotangent."""
    if torch._C._functorch.is_legacy_batchedtensor(up):  # whose memory no engine can read
        one = torch.ones((), dtype=call.cx.acc, device=call.operands.x.device)
        return (up * backward(call, one, weight, stats)).to(call.operands.x.dtype)
    up, cx = cotangent(up, call.cx)
    call = call._replace(cx=cx)
    twin = numpy_call(call)
    if twin is not None:
        call, up, stats = twin, view(up), tuple(map(view, stats))
    run = partial(default.runner(call), saved=stats or None)
    return home(default.evaluated(call, run, Need(grad=True), up, weight, value=False)[1].grad)


def cotangent(up: Array, cx: Context) -> tuple[Array, Context]:
    """Return a cotangent that an engine can read, or the context of plain operations."""
    if cx.eager and not has_memory(up):
        if is_wrapper(up):
            return up, functional(cx)
        up = up.clone().resolve_neg()  # a negated view; zeros without memory
    return up, cx


class _Reduced(torch.autograd.Function):
    """The sum or the mean of the row losses; saves its inputs, two numbers a row of many classes.

    Its gradient is value_and_grad's, its second derivative that of the rows. Of few classes, whose
    gradient starts from nothing saved, the compiled engine gives it with the loss in one launch: it
    waits for the first backward, which returns it where the cotangent is 1.
    """

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        o, call, ctx.by_rows = Operands(*args[:6]), args[6], args[7]
        ctx.call = call
        call = call._replace(operands=o)
        engine: Any = choose(call.operands, call.spec, call.cx)
        if call.spec.kind in SOFTMAX and call.classes > engine.RECOMPUTED:
            saves = STATS
        else:
            saves = GRADIENT if torch_ahead.pays(engine, call.classes) else NOTHING
        made = forward(call, saves)
        ctx.weight, ctx.ahead = made.weight, made.gradient
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*args[:6], *made.stats)
        return made.value

    @staticmethod
    def backward(ctx: Any, up: Any) -> Any:
        none = (None,) * 7
        if up is None:
            return None, *none
        kept = ctx.saved_tensors  # activation checkpointing gives them once
        o, stats = Operands(*kept[:6]), kept[6:]
        ahead, ctx.ahead = ctx.ahead, None
        if ahead is not None and not torch.is_grad_enabled() and torch_ahead.is_one(up):
            return ahead, *none
        call = ctx.call._replace(operands=o)
        if torch.is_grad_enabled():
            loss = ctx.by_rows(call)
            return torch.autograd.grad(loss, o.x, up, create_graph=True)[0], *none
        return backward(call, up, ctx.weight, stats), *none


def recorded(call: Call, by_rows: Callable[[Call], Array]) -> Array:
    """Return the loss, recorded by autograd.

    by_rows: what returns it in operations that autograd can follow to any order.
    """
    bare = call._replace(operands=Operands(None))
    made: Array = _Reduced.apply(*call.operands, bare, by_rows)  # type: ignore[no-untyped-call]
    return made
