"""Chunks of rows cut along the class axis: compiled where an engine can, else in blocks of rows."""

from __future__ import annotations

from typing import Any

from .._xp import Array, Context
from ..core import pieces
from ..core.blocks import cut, cuts
from ..core.spec import Operands, Spec, Upstream
from . import shards


def stats(o: Operands, spec: Spec, classes: int, start: int) -> Array:
    """Return a piece's statistics, (*rows, numbers), wide: see core.pieces."""
    cx = pieces.chunk_context(o.x)
    if _compiled(o, spec, cx):
        t = pieces.piece_targets(o, spec, cx, classes, start)
        return pieces.pack(shards.stats(o.x, t, spec, cx), cx)
    rows = tuple(o.x.shape[:-1])
    made = [
        pieces.stats(cut(cx.xp, o, block, o.x.shape[-1]), spec, classes, start)
        for block in cuts(rows, max(1, o.x.shape[-1]), cx)
    ]
    return cx.xp.reshape(cx.xp.concat(made), (*rows, made[0].shape[-1]))


def gradients(
    o: Operands, packed: Array, sums: Array | None, up: Upstream, spec: Spec, classes: int,
    start: int, want: str,
) -> Array:  # fmt: skip
    """Return a piece's gradient to x or to soft targets: see core.pieces."""
    cx = pieces.chunk_context(o.x)
    if want == "x" and _compiled(o, spec, cx):
        t = pieces.piece_targets(o, spec, cx, classes, start)
        return shards.gradient(o.x, pieces.unpack(packed, cx), t, spec, cx, up)
    xp = cx.xp
    like: Any = o.x if want == "x" else o.targets
    rows, width = tuple(o.x.shape[:-1]), o.x.shape[-1]
    out = xp.empty(like.shape, dtype=like.dtype)

    def part(a: Any, block: tuple[slice, ...], inner: int = 0) -> Any:
        if a is None or isinstance(a, float) or a.ndim == 0:
            return a
        return xp.reshape(a[(*block, ...)], (-1, inner) if inner else (-1,))

    for block in cuts(rows, max(1, width), cx):
        here = pieces.gradients(
            cut(xp, o, block, width), part(packed, block, packed.shape[-1]),
            part(sums, block, 0 if sums is None else sums.shape[-1]),
            Upstream(part(up.row, block), part(up.weight, block), up.live), spec, classes, start,
            want,
        )  # fmt: skip
        place = (*block, ...)
        out[place] = xp.reshape(here, out[place].shape)
    return out


def _compiled(o: Operands, spec: Spec, cx: Context) -> bool:
    return spec.kind == "cross_entropy" and spec.indexed and shards.compiled(o.x, spec, cx)
