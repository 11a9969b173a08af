"""A loss whose classes are split over ranks: the ranks exchange a few numbers a row, twice.

First the maximum of each row, then the sums over its classes. No third exchange follows: each rank
computes the gradient to its own slice from what the two have left.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

from ..._arrays.inspect import Array
from ...core import class_shards
from ...core.call import LossCall
from ...core.options import UNIT_COTANGENT, Cotangent, Operands, Outcome, Outputs
from ...core.reduce import exact_sum
from ...core.row_stats import RowStats
from ...core.targets import Targets, total_weight
from ...engines import choose
from ...engines import class_slices as engine
from . import dense


class Made(NamedTuple):
    """What the two exchanges leave: the same on every rank, but for where the labels are."""

    rows: Array  # (*rows,), the row losses in the dtype of sums
    stats: RowStats  # of the whole rows
    targets: Targets  # as this rank sees them


def value(call: LossCall) -> Array:
    """Return the loss."""
    return reduced(call, forward(call))


def value_and_grad(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the closed-form gradient to this rank's slice of the logits."""
    made = forward(call)
    return reduced(call, made), {"x": gradient(call, made, cotangent)}


def exchanged(call: LossCall) -> tuple[Array, Array, Targets]:
    """Return the common maximum, the sums over the ranks, and this rank's targets."""
    o, options, cx = call.operands, call.options, call.cx
    assert call.shard is not None
    t = class_shards.targets(o, options, cx, call.shard)
    own_stats = engine.shard_stats(call, t)
    m = call.group.maximum(class_shards.maximum(own_stats, cx))
    return m, call.group.total(class_shards.addends(own_stats, m, t, cx)), t


def forward(call: LossCall) -> Made:
    """Return the row losses and what a gradient starts from."""
    m, sums, t = exchanged(call)
    s, t = class_shards.whole(m, sums, t, call.options, call.cx)
    return Made(class_shards.losses(s, t, call.options, call.cx), s, t)


def weight_sum(call: LossCall, o: Operands) -> Array:
    """Return the mean's denominator of operands with one row axis; it depends on no logit."""
    options, cx, shard = call.options, call.cx, call.shard
    assert shard is not None
    t = class_shards.targets(o, options, cx, shard)
    if t.label_weight is not None:
        t = class_shards.weighed(t, call.group.total(t.label_weight), cx)
    return total_weight(t, o.x.shape[0], cx)


def run_rows(call: LossCall, outputs: Outputs, cotangent: Cotangent = UNIT_COTANGENT) -> Outcome:
    """Compute a block of rows: by an engine, or by all ranks of the call's group.

    Each rank has its own classes. Every call is an exchange, so that all ranks must cut their rows
    into the same blocks.
    """
    if call.group is None:
        return choose(call).run(call, outputs, cotangent)
    made, cx = forward(call), call.cx
    total = exact_sum(cx, made.rows) if outputs.total else None
    grad = None
    if outputs.grad:
        grad = engine.shard_gradient(call, made.stats, made.targets, cotangent)
    rows = cx.cast(made.rows, cx.compute_dtype) if outputs.rows else None
    return Outcome(rows, total, None, grad)


def reduced(call: LossCall, made: Made) -> Array:
    """Return the sum, the mean or the row losses."""
    cx = call.cx
    if call.options.reduction == "none":
        return cx.plain(cx.cast(made.rows, cx.compute_dtype))
    weight = None if call.options.reduction == "sum" else _weight(call, made.targets)
    return dense.reduced(call, exact_sum(cx, made.rows), weight)


def gradient(call: LossCall, made: Made, cotangent: Any) -> Array:
    """Return the gradient to this rank's slice of the logits, without an exchange."""
    cx = call.cx
    row_loss: Any = 1.0 if cotangent is None else cx.cast(cotangent, cx.sum_dtype)
    any_row_counts = None
    if call.options.reduction == "mean":
        row_loss, _, any_row_counts = dense.mean_cotangent(
            call, row_loss, _weight(call, made.targets)
        )
    of_rows = Cotangent(row_loss, None, any_row_counts)
    return engine.shard_gradient(call, made.stats, made.targets, of_rows)


def _weight(call: LossCall, t: Targets) -> Any:
    """Return the mean's denominator."""
    return total_weight(t, prod(call.operands.x.shape[:-1]), call.cx)
