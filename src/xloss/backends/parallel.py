"""A loss whose classes are spread over ranks: two exchanges of a number or few a row, no third."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

from .._xp import Array, cast, plain
from ..core import shards
from ..core.reduce import exact_sum
from ..core.rowstats import RowStats
from ..core.spec import Upstream
from ..core.targets import Targets, total_weight
from ..engines import shards as engine
from . import default
from .call import Call


class Made(NamedTuple):
    """What the two exchanges leave: the same on each rank but for the targets' labels."""

    rows: Array  # wide
    stats: RowStats  # of the whole rows
    targets: Targets


def _own(call: Call) -> Any:
    """Return the module of a library that needs one, imported with the first array in hand."""
    library = call.cx.library
    if library == "torch":
        from . import torch_parallel

        return torch_parallel
    if library == "jax":
        from . import jax_parallel

        return jax_parallel
    return None


def value(call: Call) -> Array:
    """Return the loss."""
    own = _own(call)
    if own is not None:
        made: Array = own.value(call)
        return made
    return reduced(call, forward(call))


def value_and_grad(
    call: Call, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the closed-form gradient of this rank's slice."""
    own = _own(call)
    if own is not None:
        both: tuple[Array, dict[str, Array]] = own.value_and_grad(call, wanted, cotangent)
        return both
    made = forward(call)
    return reduced(call, made), {"x": gradient(call, made, cotangent)}


def exchanged(call: Call) -> tuple[Array, Array, Targets]:
    """Return the common maximum, the sums over the ranks, and this rank's targets."""
    o, spec, cx = call.operands, call.spec, call.cx
    assert call.shard is not None
    t = shards.targets(o, spec, cx, call.shard)
    mine = engine.stats(o.x, t, spec, cx)
    m = call.group.maximum(shards.maximum(mine, cx))
    return m, call.group.total(shards.addends(mine, m, t, cx)), t


def forward(call: Call) -> Made:
    """Return row losses and what a gradient starts from."""
    m, sums, t = exchanged(call)
    s, t = shards.whole(m, sums, t, call.spec, call.cx)
    return Made(shards.losses(s, t, call.spec, call.cx), s, t)


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
