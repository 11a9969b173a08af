"""Losses as functions of row losses, in plain operations that a library's autodiff follows."""

from __future__ import annotations

from collections.abc import Callable

from ..._arrays.inspect import Array
from ...core.call import LossCall
from ...core.reduce import exact_sum, mean
from ...core.targets import live_rows, prepare, total_weight
from ...core.weights import Balanced, balance, mean_weights, rescaled


def value(call: LossCall, rows: Callable[[LossCall], Array]) -> Array:
    """Return the loss, of the row losses that `rows` computes."""
    o, options, cx, classes = call.operands, call.options, call.cx, call.classes
    o, n = mean_weights(o, options, cx, classes, call.normalizer)
    weight = None
    if options.reduction == "mean":
        o, weight = live_rows(o, options, cx, classes, n)
    losses = rows(call.of(o))
    if options.reduction == "none":
        return losses
    total = exact_sum(cx, losses)
    if weight is not None:
        total = mean(cx, total, weight, n)
    return cx.cast(total, cx.compute_dtype)


def weight(call: LossCall) -> Array:
    """Return the mean's denominator, of soft targets as a function of them; no logit is there."""
    o, options, cx, classes = call.operands, call.options, call.cx, call.classes
    made = Balanced(o, 0)
    if o.class_weight is not None or o.sample_weight is not None:
        made = balance(o, options, cx, classes)
    count = 0 if o.targets is None else cx.row_count(o.targets, 0 if options.indexed else classes)
    total = total_weight(prepare(made.operands, options, cx, classes), count, cx)
    return rescaled(cx, total, made.shift)
