"""A loss whose classes are spread over ranks: two exchanges of a number or few a row, no third."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

from ..._arrays.context import Context
from ..._arrays.inspect import Array
from ..._arrays.ops import cast, plain
from ...core import class_shards
from ...core.call import Call
from ...core.options import NO_UPSTREAM, Need, Operands, Result, Spec, Upstream
from ...core.reduce import exact_sum
from ...core.row_stats import RowStats
from ...core.targets import Targets, total_weight
from ...engines import choose
from ...engines import class_shards as engine
from . import dense as default


class Made(NamedTuple):
    """What the two exchanges leave: the same on each rank but for the targets' labels."""

    rows: Array  # wide
    stats: RowStats  # of the whole rows
    targets: Targets


def exchanged(call: Call) -> tuple[Array, Array, Targets]:
    """Return the common maximum, the sums over the ranks, and this rank's targets."""
    o, spec, cx = call.operands, call.spec, call.cx
    assert call.shard is not None
    t = class_shards.targets(o, spec, cx, call.shard)
    mine = engine.stats(o.x, t, spec, cx)
    m = call.group.maximum(class_shards.maximum(mine, cx))
    return m, call.group.total(class_shards.addends(mine, m, t, cx)), t


def forward(call: Call) -> Made:
    """Return row losses and what a gradient starts from."""
    m, sums, t = exchanged(call)
    s, t = class_shards.whole(m, sums, t, call.spec, call.cx)
    return Made(class_shards.losses(s, t, call.spec, call.cx), s, t)


def weight_sum(call: Call, o: Operands) -> Array:
    """Return the mean's denominator of flat operands: without their logits."""
    spec, cx, shard = call.spec, call.cx, call.shard
    assert shard is not None
    t = class_shards.targets(o, spec, cx, shard)
    if t.label_weight is not None:
        t = class_shards.weighed(t, call.group.total(t.label_weight), cx)
    return total_weight(t, o.x.shape[0], cx)


class Spread(NamedTuple):
    """The row stage of a call, as an engine offers it: on this rank's logits of a block of rows."""

    call: Call

    def run(
        self,
        o: Operands,
        spec: Spec,
        cx: Context,
        classes: int,
        need: Need,
        up: Upstream = NO_UPSTREAM,
    ) -> Result:
        """Compute what is needed; every rank runs the same blocks."""
        made = forward(self.call._replace(operands=o, cx=cx))
        total = exact_sum(cx, made.rows) if need.total else None
        grad = None
        if need.grad:
            grad = engine.gradient(o.x, made.stats, made.targets, spec, cx, up)
        return Result(cast(cx, made.rows, cx.acc) if need.rows else None, total, None, grad)


def stage(call: Call, o: Operands, cx: Context) -> Any:
    """Return what computes a block of rows: an engine, or the ranks of a group."""
    return choose(o, call.spec, cx) if call.group is None else Spread(call)


def reduced(call: Call, made: Made) -> Array:
    """Return the sum, the mean or the row losses."""
    cx = call.cx
    if call.spec.reduction == "none":
        return plain(cx, cast(cx, made.rows, cx.acc))
    weight = None if call.spec.reduction == "sum" else _weight(call, made.targets)
    return default.reduced(call, exact_sum(cx, made.rows), weight)


def gradient(call: Call, made: Made, cotangent: Any) -> Array:
    """Return the gradient of this rank's slice; no rank waits for another."""
    o, spec, cx = call.operands, call.spec, call.cx
    up: Any = 1.0 if cotangent is None else cast(cx, cotangent, cx.wide)
    live = None
    if spec.reduction == "mean":
        up, _, live = default.slope(call, up, _weight(call, made.targets))
    return engine.gradient(o.x, made.stats, made.targets, spec, cx, Upstream(up, None, live))


def _weight(call: Call, t: Targets) -> Any:
    return total_weight(t, prod(call.operands.x.shape[:-1]), call.cx)
