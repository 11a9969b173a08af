"""PyTorch's DTensor: each rank computes on its shard; ranks that share rows exchange statistics."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch.distributed._functional_collectives import AsyncCollectiveTensor
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard

from ..._arrays.context import Context, context, read
from ..._arrays.inspect import Array, namespace, readable
from ...core.call import LossCall
from ...core.class_shards import Shard as Slice
from ...core.options import Operands
from ...core.targets import prepare, total_weight
from ...core.value_checks import check_values
from ..eager import dense as default
from . import backend as whole
from . import sharded as torch_parallel
from .process_group import Ranks


def value(call: LossCall) -> Array:
    """Return the loss, replicated; or the row losses, sharded as the rows are."""
    spread = _ShardedCall(call)
    got = spread.module.value(spread.local)
    return spread.result(got)


def value_and_grad(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the closed-form gradients, sharded as the logits are."""
    spread = _ShardedCall(call)
    if "targets" in wanted:
        spread.refuse_targets()
    if cotangent is not None:
        cotangent = spread.rows_of(cotangent) if cotangent.ndim else _full(cotangent)
    x = call.operands.x
    with torch.no_grad():
        got, grads = spread.module.value_and_grad(spread.local, wanted, cotangent)
        spread_grads = {n: _whole(g, x, x.placements, x.shape) for n, g in grads.items()}
        return spread.result(got), {n: default.restore(call, g) for n, g in spread_grads.items()}


class _ShardedCall:
    """A call on DTensors, and this rank's share of it."""

    def __init__(self, call: LossCall) -> None:
        x = call.operands.x
        self.call, self.x, self.mesh = call, x, x.device_mesh
        # The binary losses have no class axis: all their axes are row axes.
        last = x.ndim - 1 if call.classes else x.ndim
        self.shape = tuple(x.shape[:last])
        for p in x.placements:
            if not (type(p) is Shard or type(p) is Replicate):
                raise ValueError(f"{_name(call)}: is {p}; redistribute it to Shard or Replicate")
        over = [i for i, p in enumerate(x.placements) if p.is_shard(last)]
        if len(over) > 1:
            raise ValueError(f"{_name(call)}: the class axis is sharded over several mesh axes")
        if over and (call.options.kind != "cross_entropy" or not call.options.indexed):
            raise ValueError(
                f"{_name(call)}: sharded along the class axis, which only cross_entropy of class "
                "indices takes; redistribute it"
            )
        self.rows: list[Placement] = [Replicate() if p.is_shard(last) else p for p in x.placements]
        self.over = over[0] if over else None
        self.module: Any = whole if self.over is None else torch_parallel
        self.local = self._local()

    def _local(self) -> LossCall:
        call, o, options = self.call, self.call.operands, self.call.options
        x = _local(self.x)
        cx = context(x, namespace(x))
        soft = o.targets is not None and o.targets.ndim == o.x.ndim
        along: list[Placement] = [Replicate()] * len(self.rows)
        if self.over is not None:
            along[self.over] = Shard(0)
        mine = Operands(
            x,
            self._part(o.targets, self.x.placements if soft else self.rows),
            self._part(o.class_weight, along),
            self.rows_of(o.sample_weight),
            self.rows_of(o.where),
            self.rows_of(o.pos_weight),
        )
        classes, n = call.classes, call.normalizer
        reads = options.validate is True or (options.validate == "auto" and readable(x, cx.xp))
        if reads and o.targets is not None:
            cx = self._checked(x, cx)
        local = call._replace(cx=cx, operands=mine, axis=-1)
        n = _full(n)
        if options.reduction == "mean" and n is None and self.rows_are_spread():
            if o.targets is not None and o.targets.requires_grad:
                self.refuse_targets()
            n = self._weight(mine, classes)
        local = local._replace(normalizer=n)
        if self.over is None:
            return local
        ranks = Ranks(self.mesh.get_group(self.over), x.device)
        # DTensor makes shards of equal length; the last ones may be shorter or empty.
        most = -(-classes // ranks.size)
        start = min(classes, ranks.rank * most)
        return local._replace(shard=Slice(start, x.shape[-1], classes, most), group=ranks)

    def _checked(self, x: Array, cx: Context) -> Context:
        """Check the labels and weights of all ranks on every rank.

        All ranks raise the same error, or none: otherwise one would wait for another that has left.
        Labels and weights are small beside the logits.
        """
        o, options, classes = self.call.operands, self.call.options, self.call.classes
        if not options.indexed and options.validate is not True:
            return cx
        like = x.new_empty(()).expand(self.x.shape)
        every = Operands(like, *map(_full, o[1:]))
        return check_values(every, options, read(cx), classes)

    def refuse_targets(self) -> None:
        """Raise where a gradient to targets would need the rows of other ranks."""
        if self.call.options.reduction == "mean" and self.rows_are_spread():
            raise ValueError(
                "targets: of a mean over rows on several ranks they have no gradient here; "
                'take reduction="sum" and divide'
            )

    def rows_are_spread(self) -> bool:
        return any(p.is_shard() for p in self.rows)

    def _weight(self, mine: Operands, classes: int) -> Array:
        """Return the sum of the row weights over all ranks."""
        call = self.call
        full = _full(call.operands.class_weight)
        cx = context(mine.x, namespace(mine.x))
        t = prepare(mine._replace(class_weight=full), call.options, cx, classes)
        rows = mine.x.shape[: len(self.shape)]
        total = total_weight(t, prod(rows), cx)
        return _local(self._summed(total))

    def _summed(self, a: Array) -> Any:
        """Sum over the ranks that have different rows."""
        each = [Partial() if p.is_shard() else Replicate() for p in self.rows]
        made = DTensor.from_local(a, self.mesh, each, run_check=False)
        return made.redistribute(placements=[Replicate()] * len(each))

    def rows_of(self, a: Array | None) -> Array | None:
        """Return this rank's shard of an array with one entry a row."""
        return self._part(a, self.rows)

    def _part(self, a: Array | None, placements: Any) -> Array | None:
        if a is None:
            return None
        if not isinstance(a, DTensor):
            same = [Replicate()] * len(placements)
            a = DTensor.from_local(a, self.mesh, same, run_check=False)
        return _local(a.redistribute(self.mesh, placements))

    def result(self, got: Array) -> Array:
        """Return the DTensor of which a local result is this rank's shard."""
        if self.call.options.reduction == "none":
            return _whole(got, self.x, self.rows, self.shape)
        return self._summed(got)


def _whole(a: Array, like: Any, placements: Any, shape: Any) -> Array:
    """Return the DTensor of this shape of which `a` is this rank's shard."""
    in_order = torch.empty(shape, device="meta")
    made: Array = DTensor.from_local(
        a.contiguous(),
        like.device_mesh,
        placements,
        run_check=False,
        shape=in_order.shape,
        stride=in_order.stride(),
    )
    return made


def _local(a: Any) -> Any:
    """Return this rank's shard, after waiting for an exchange that is still under way."""
    part = a.to_local()
    return part.wait() if isinstance(part, AsyncCollectiveTensor) else part


def _full(a: Any) -> Any:
    """Return the whole of a DTensor; anything else as it is."""
    return a.full_tensor() if isinstance(a, DTensor) else a


def _name(call: LossCall) -> str:
    return call.arguments[0]
