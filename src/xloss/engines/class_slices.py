"""Chunks of rows cut along the class axis: compiled where an engine can, else in blocks of rows."""

from __future__ import annotations

from typing import Any

from .._arrays.context import Context
from .._arrays.inspect import Array
from ..core import class_slices
from ..core.options import Cotangent, Operands, Options
from ..core.row_blocks import block_operands, block_slices
from . import class_shards
from .generic import cut_up


def stats(o: Operands, options: Options, classes: int, start: int) -> Array:
    """Return a piece's statistics, (*rows, numbers), wide: see core.pieces."""
    cx = class_slices.chunk_context(o.x)
    if _compiled(o, options, cx):
        t = class_slices.slice_targets(o, options, cx, classes, start)
        return class_slices.pack(class_shards.stats(o.x, t, options, cx), cx)
    rows = tuple(o.x.shape[:-1])
    made = [
        class_slices.stats(block_operands(cx.xp, o, block, o.x.shape[-1]), options, classes, start)
        for block in block_slices(rows, max(1, o.x.shape[-1]), cx)
    ]
    return cx.xp.reshape(cx.xp.concat(made), (*rows, made[0].shape[-1]))


def gradients(
    o: Operands,
    packed: Array,
    sums: Array | None,
    cotangent: Cotangent,
    options: Options,
    classes: int,
    start: int,
    want: str,
) -> Array:
    """Return a piece's gradient to x or to soft targets: see core.pieces."""
    cx = class_slices.chunk_context(o.x)
    if want == "x" and _compiled(o, options, cx):
        t = class_slices.slice_targets(o, options, cx, classes, start)
        return class_shards.gradient(
            o.x, class_slices.unpack(packed, cx), t, options, cx, cotangent
        )
    xp = cx.xp
    like: Any = o.x if want == "x" else o.targets
    rows, width = tuple(o.x.shape[:-1]), o.x.shape[-1]
    out = xp.empty(like.shape, dtype=like.dtype)

    for block in block_slices(rows, max(1, width), cx):
        here = class_slices.gradients(
            block_operands(xp, o, block, width),
            class_shards.rows_of(xp, packed, block, 2),
            None if sums is None else class_shards.rows_of(xp, sums, block, 2),
            cut_up(xp, cotangent, block),
            options,
            classes,
            start,
            want,
        )
        place = (*block, ...)
        out[place] = xp.reshape(here, out[place].shape)
    return out


def _compiled(o: Operands, options: Options, cx: Context) -> bool:
    by_label = options.kind == "cross_entropy" and options.indexed
    return by_label and class_shards.compiled(o.x, options, cx) is not None
