"""A loss whose classes are spread over ranks: two exchanges of a number or few a row, no third."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

from ..._arrays.context import Context
from ..._arrays.inspect import Array
from ..._arrays.ops import cast, plain
from ...core import class_shards
from ...core.call import LossCall
from ...core.options import UNIT_COTANGENT, Cotangent, Operands, Options, Outcome, Outputs
from ...core.reduce import exact_sum
from ...core.row_stats import RowStats
from ...core.targets import Targets, total_weight
from ...engines import choose
from ...engines import class_slices as engine
from . import dense as default


class Made(NamedTuple):
    """What the two exchanges leave: the same on each rank but for the targets' labels."""

    rows: Array  # wide
    stats: RowStats  # of the whole rows
    targets: Targets


def exchanged(call: LossCall) -> tuple[Array, Array, Targets]:
    """Return the common maximum, the sums over the ranks, and this rank's targets."""
    o, options, cx = call.operands, call.options, call.cx
    assert call.shard is not None
    t = class_shards.targets(o, options, cx, call.shard)
    mine = engine.shard_stats(o.x, t, options, cx)
    m = call.group.maximum(class_shards.maximum(mine, cx))
    return m, call.group.total(class_shards.addends(mine, m, t, cx)), t


def forward(call: LossCall) -> Made:
    """Return row losses and what a gradient starts from."""
    m, sums, t = exchanged(call)
    s, t = class_shards.whole(m, sums, t, call.options, call.cx)
    return Made(class_shards.losses(s, t, call.options, call.cx), s, t)


def weight_sum(call: LossCall, o: Operands) -> Array:
    """Return the mean's denominator of flat operands: without their logits."""
    options, cx, shard = call.options, call.cx, call.shard
    assert shard is not None
    t = class_shards.targets(o, options, cx, shard)
    if t.label_weight is not None:
        t = class_shards.weighed(t, call.group.total(t.label_weight), cx)
    return total_weight(t, o.x.shape[0], cx)


class ShardedRowStage(NamedTuple):
    """The row stage of a call, as an engine offers it: on this rank's logits of a block of rows."""

    call: LossCall

    def run(
        self,
        o: Operands,
        options: Options,
        cx: Context,
        classes: int,
        outputs: Outputs,
        cotangent: Cotangent = UNIT_COTANGENT,
    ) -> Outcome:
        """Compute what is needed; every rank runs the same blocks."""
        made = forward(self.call._replace(operands=o, cx=cx))
        total = exact_sum(cx, made.rows) if outputs.total else None
        grad = None
        if outputs.grad:
            grad = engine.shard_gradient(o.x, made.stats, made.targets, options, cx, cotangent)
        return Outcome(
            cast(cx, made.rows, cx.compute_dtype) if outputs.rows else None, total, None, grad
        )


def stage(call: LossCall, o: Operands, cx: Context) -> Any:
    """Return what computes a block of rows: an engine, or the ranks of a group."""
    return choose(o, call.options, cx) if call.group is None else ShardedRowStage(call)


def reduced(call: LossCall, made: Made) -> Array:
    """Return the sum, the mean or the row losses."""
    cx = call.cx
    if call.options.reduction == "none":
        return plain(cx, cast(cx, made.rows, cx.compute_dtype))
    weight = None if call.options.reduction == "sum" else _weight(call, made.targets)
    return default.reduced(call, exact_sum(cx, made.rows), weight)


def gradient(call: LossCall, made: Made, cotangent: Any) -> Array:
    """Return the gradient of this rank's slice; no rank waits for another."""
    o, options, cx = call.operands, call.options, call.cx
    cot: Any = 1.0 if cotangent is None else cast(cx, cotangent, cx.sum_dtype)
    live = None
    if options.reduction == "mean":
        cot, _, live = default.slope(call, cot, _weight(call, made.targets))
    return engine.shard_gradient(
        o.x, made.stats, made.targets, options, cx, Cotangent(cot, None, live)
    )


def _weight(call: LossCall, t: Targets) -> Any:
    return total_weight(t, prod(call.operands.x.shape[:-1]), call.cx)
