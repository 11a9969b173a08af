"""PyTorch: row losses under autograd, torch.func and compilers, and the loss made of them.

Everything but the rows is plain operations, which PyTorch differentiates to any order.
"""

from __future__ import annotations

from typing import Any

import torch

from ..._arrays.context import context, functional
from ..._arrays.inspect import Array, namespace
from ...core.call import LossCall
from ...core.family import SOFTMAX_KINDS
from ...core.formula import formula_gradients
from ...core.options import OPERANDS, Cotangent, Operands, Options, Outputs
from ...core.reduce import exact_sum, mean
from ...core.targets import live_rows
from ...core.token_stats import Tokens, of_fields
from ...core.weights import mean_weights
from ...engines import choose
from . import custom_op, custom_op_formula
from .autograd import run
from .following import followed
from .softmax_rules import (
    following,
    mapped,
    one_by_one,
    primals,
    sigmoid_parts,
    softmax_parts,
)


def value(call: LossCall, traced: bool = False) -> Array:
    """Return the loss as a function of row losses, in plain operations.

    traced: a compiler, or functionalize, takes no autograd.Function.
    """
    cx = functional(call.cx)
    o = call.operands
    weight = None
    if call.options.reduction == "mean":
        # In plain operations: the sum of soft targets is a function of them.
        n = call.normalizer
        o, n = mean_weights(o, call.options, cx, call.classes, n, rounded=True)
        o, weight = live_rows(o, call.options, cx, call.classes, n)
        call = call._replace(operands=o, normalizer=n)
    rows = _traced(call) if traced else _recorded(call)
    if call.options.reduction == "none":
        return rows
    total = exact_sum(cx, rows)
    if weight is not None:
        total = mean(cx, total, weight, call.normalizer)
    return cx.cast(total, cx.compute_dtype)


def _recorded(call: LossCall) -> Array:
    """Return row losses recorded by autograd."""
    out = _applied(call, Outputs())
    return out[0] if isinstance(out, tuple) else out


def _applied(call: LossCall, beside: Outputs) -> Any:
    o = call.operands
    return _Rows.apply(*o, call.options, call.classes, call.cx.labels_verified, beside)  # type: ignore[no-untyped-call]


def tokens(call: LossCall, asked: Outputs) -> tuple[Array, Tokens]:
    """Return row losses recorded by autograd, and the numbers beside them, which are constants."""
    rows, _, _, *made = _applied(call, asked)
    return rows, of_fields(made, asked)


def _traced(call: LossCall) -> Array:
    """Return row losses in what a compiler traces."""
    call = call._replace(options=call.options._replace(reduction="none"), normalizer=None)
    if custom_op.takes(call):
        return custom_op.value(call)
    return custom_op_formula.rows(call) if custom_op_formula.takes(call) else _surrogate(call)


def _surrogate(call: LossCall) -> Array:
    """Return row losses whose derivative is the closed form: value + Σ g (x - x.detach()).

    A compiler differentiates this to the gradient that keeps the tail. An autograd.Function it
    cannot trace without a warning of its own. There is no second derivative, as always under
    torch.compile.
    """
    o, cx = call.operands, functional(call.cx)
    compiling = torch.compiler.is_compiling()
    targets = None if o.targets is None else o.targets.detach()
    fixed = o._replace(x=o.x.detach(), targets=targets)
    apart = call._replace(operands=fixed, cx=cx)
    rows: Any = choose(apart).run(apart, Outputs(rows=True)).rows
    g, h = formula_gradients(apart, Cotangent(1.0))
    for x, slope in ((o.x, g), (o.targets, h)):
        # Under torch.func requires_grad is true at the innermost level only, so it is not asked.
        if x is None or slope is None or (compiling and not x.requires_grad):
            continue
        zero = torch.where(torch.isfinite(x), cx.cast(x - x.detach(), cx.compute_dtype), 0.0)
        slope = cx.cast(slope, cx.compute_dtype)
        infinite = torch.isinf(slope)
        # An infinite derivative of a term that is 0: the square root's derivative at 0 is inf.
        steep = torch.sqrt(torch.where(infinite, zero, 1.0)) * torch.sign(slope)
        term = torch.where(infinite, steep, torch.where(infinite, 0.0, slope) * zero)
        rows = rows + (term.sum(-1) if term.ndim > rows.ndim else term)
    return rows


def _call(o: Operands, options: Options, classes: int, clean: bool) -> LossCall:
    """Return the call on operands; clean: the labels were looked at."""
    cx = context(o.x, namespace(o.x))._replace(labels_verified=clean)
    return LossCall("", options, functional(cx) if followed(o) else cx, o, classes)


class _Rows(torch.autograd.Function):
    """Row losses under autograd; saves its inputs and two numbers a row."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> Any:
        if in_dims[2] is None:
            return mapped(_Rows.apply, info, in_dims, *args, shared={2})
        # Every call has class weights of its own, which one call cannot take.
        return one_by_one(_Rows.apply, info, in_dims, *args)

    @staticmethod
    def forward(*args: Any) -> Any:
        *static, beside = args[OPERANDS:]
        call = _call(Operands(*args[:OPERANDS]), *static)
        got = run(call, beside._replace(rows=True, stats=call.options.kind in SOFTMAX_KINDS))
        return (got.rows, *(got.stats or ()), *(a for a in got.tokens or () if a is not None))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        stats = output[1:3]
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[:OPERANDS], *stats)
        ctx.save_for_forward(*inputs[:OPERANDS], *stats)
        ctx.static, ctx.count = inputs[OPERANDS:-1], len(output)

    @staticmethod
    def backward(ctx: Any, *ups: Any) -> Any:
        none = (None,) * (OPERANDS + 4)
        if ups[0] is None:
            return none
        kept = ctx.saved_tensors  # to be read once, under activation checkpointing
        call = _call(Operands(*kept[:OPERANDS]), *ctx.static)
        o, cx = call.operands, call.cx
        wants = ctx.needs_input_grad[:2]
        if torch.is_grad_enabled():
            g, h = _formula(call, ups[0])
            g = cx.cast(g, o.x.dtype)
            h = None if h is None or o.targets is None else cx.cast(h, o.targets.dtype)
        else:
            outputs = Outputs(grad=wants[0], grad_targets=wants[1])
            got = run(call, outputs, ups[0], tuple(kept[OPERANDS:]) or None)
            g, h = got.grad, got.grad_targets
        return (g if wants[0] else None, h if wants[1] else None, *none[2:])

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        with following():
            call = _call(Operands(*primals(*ctx.saved_tensors)[:OPERANDS]), *ctx.static)
            cx = call.cx
            out: Any = 0.0
            for slope, tangent in zip(_formula(call, 1.0), tangents[:2], strict=True):
                if slope is None or tangent is None:
                    continue
                # A class of derivative 0 does not move the loss, even if its tangent is infinite.
                still = (slope == 0) & ~torch.isfinite(tangent)
                term = cx.cast(slope, cx.compute_dtype) * torch.where(still, 0.0, tangent)
                out = out + (term.sum(-1) if call.classes else term)
        return (out, *(None,) * (ctx.count - 1))


def _formula(call: LossCall, cotangent: Any) -> tuple[Array, Array | None]:
    return formula_gradients(
        call._replace(cx=functional(call.cx)),
        Cotangent(cotangent),
        lambda z, _: softmax_parts(z),
        lambda z, _: sigmoid_parts(z),
    )
