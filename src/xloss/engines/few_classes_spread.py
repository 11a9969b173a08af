"""Targets of a few classes a row of which a part is spread evenly, on a compiled engine.

Its pass gives the row statistics. What the even part adds up to is summed by core in row blocks,
and the engine's second pass makes the softmax times a row's factor, from which the even part is
taken off in place: one array of the logits' size, the gradient itself.
"""

from __future__ import annotations

from math import inf
from typing import Any, NamedTuple

from .._arrays.inspect import Array
from ..core import few_classes, softmax
from ..core.call import LossCall
from ..core.family import select_gradient, select_rows
from ..core.options import Cotangent, Outcome, Outputs, Saved
from ..core.reduce import exact_sum
from ..core.row_blocks import block_operands, block_slices, joined
from ..core.row_stats import Exponentials, RowStats, gaps, log1p_tail, row_stats
from ..core.smoothing import few_target_gradient
from ..core.targets import prepare
from .generic import cut_cotangent


class Made(NamedTuple):
    """What is found of a row block, one row axis; None where it is not asked for."""

    rows: Array | None = None  # losses in the sums' dtype, (rows,)
    factor: Array | None = None  # what the softmax is multiplied by, (rows,)
    even: Array | None = None  # what is taken off it at a class of weight 1, (rows,)
    slots: Array | None = None  # the gradient of the listed classes, (rows, K)
    grad_targets: Array | None = None  # (rows, K)


def run(
    passes: Any,
    call: LossCall,
    indices: Array,
    outputs: Outputs,
    cotangent: Cotangent,
    saved: Saved,
) -> Outcome:
    """Compute the outputs.

    passes(outputs, cotangent, saved) runs the engine as for labels; indices: safe, (*rows, K).
    """
    o, cx, xp = call.operands, call.cx, call.cx.xp
    if saved is None:
        saved = passes(Outputs(stats=True), Cotangent(), None).stats
    assert saved is not None
    rows = tuple(o.x.shape[:-1])
    blocks = list(block_slices(rows, call.classes, cx))
    parts = [_block(call, outputs, cotangent, saved, at) for at in blocks]
    made = Made(*(joined(column, rows, cx) for column in zip(*parts, strict=True)))
    losses, total, grad = made.rows, None, None
    if losses is not None:
        total = exact_sum(cx, losses) if outputs.total else None
        losses = cx.cast(losses, cx.compute_dtype) if outputs.rows else None
    if outputs.grad:
        factor = Cotangent(made.factor, None, cotangent.any_row_counts)
        grad = passes(Outputs(grad=True), factor, saved).grad
        for at in blocks:
            part, x = grad[(*at, ...)], o.x[(*at, ...)]
            a: Any = cx.cast(made.even[at], cx.compute_dtype)[..., None]  # type: ignore[index]
            if o.class_weight is not None:
                a = a * cx.cast(o.class_weight, cx.compute_dtype)
            if not (cx.on_host and float(xp.min(x)) > -inf):  # a masked class has no part in it
                a = xp.where(x == -xp.inf, 0.0, a)
            part -= cx.cast(a, grad.dtype)
        grad = cx.scatter_many(grad, indices, cx.cast(made.slots, grad.dtype))
    stats = saved if outputs.stats else None
    return Outcome(losses, total, None, grad, made.grad_targets, stats)


def _block(
    call: LossCall,
    outputs: Outputs,
    cotangent: Cotangent,
    saved: tuple[Array, ...],
    at: tuple[slice, ...],
) -> Made:
    """Compute what a row block's logits and statistics say."""
    o, options, cx, xp = call.operands, call.options, call.cx, call.cx.xp
    part = block_operands(xp, o, at, call.classes)
    t = prepare(part, options, cx, call.classes)
    few = t.few
    assert few is not None
    cotangent = cut_cotangent(xp, cotangent, at)
    z = cx.c_order(cx.cast(part.x, cx.compute_dtype))
    m, tail_sum = (xp.reshape(a[(*at, ...)], (-1,)) for a in saved)
    few = few._replace(spread_ahead=few_classes.spread(z, few, t.class_weight, cx))
    t = t._replace(few=few)
    column = m[:, None]
    e = Exponentials(column, z == column, z, tail_sum)
    s = RowStats(m, tail_sum)
    made = Made()
    if outputs.rows or outputs.total:
        whole = row_stats(z, t, options, cx, e)
        made = made._replace(rows=select_rows(softmax.losses(whole, t, options, cx), t, cx))
    row: Any = cotangent.row_loss
    if outputs.grad:
        b = row if t.sample_weight is None else row * t.sample_weight
        found = few_classes.levels(z, few, t.class_weight, options, cx)
        softmax_at = few_classes.slot_parts(few_classes.entry_gaps(z, m, few, cx), m, tail_sum, cx)
        slope = row * softmax.z_term(s, t, options, cx)[1] if options.z_loss else None
        slots = few_classes.entries(softmax_at, found.at_slots, found.total, b, slope, cx)
        factor = found.total * b if slope is None else found.total * b + slope
        assert found.even is not None
        selected = (select_gradient(a, t, options, cx, cotangent) for a in (found.even * b, slots))
        made = Made(made.rows, factor, *selected)
    if outputs.grad_targets and o.targets is not None:
        log1p_r = log1p_tail(s, cx)
        lse = cx.cast(cx.cast(m, cx.sum_dtype) + log1p_r, cx.compute_dtype)
        nll = gaps(z, column, e.at_max, cx) + cx.cast(log1p_r, cx.compute_dtype)[:, None]
        h = few_target_gradient(z, nll, lse, t, options, cx, cotangent)
        h = cx.cast(select_gradient(h, t, options, cx, cotangent), o.targets.dtype)
        made = made._replace(grad_targets=h)
    return made
