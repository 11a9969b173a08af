"""Logits that are never all there: features @ weight.T + bias, a block of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import NamedTuple

from .._xp import Array, Context, dtype_name
from .blocks import DEVICE
from .reduce import exact_sum
from .spec import Operands, Spec, Upstream
from .targets import prepare, total_weight

HELD = 160 * 2**20  # bytes of logits: matrix products gain little from more rows than that
TRACED = HELD // 4  # where a compiler holds a few arrays of the block's size
PIECE = 2**22  # elements handed to the engine, or of a converted weight, at a time


class Linear(NamedTuple):
    """What turns features into logits."""

    weight: Array  # (classes, features)
    bias: Array | None  # (classes,)
    block_rows: int | None  # None: chosen from the shape


def block_rows(rows: int, classes: int, linear: Linear, cx: Context) -> int:
    """Return how many rows of logits are held at once: from the shape alone, blocks of one size."""
    if linear.block_rows is not None:
        return max(1, min(rows, linear.block_rows))
    size = 8 if dtype_name(cx.acc) == "float64" else 4
    most = max(1, (HELD if cx.eager else TRACED) // (size * classes))
    each = -(-rows // max(1, -(-rows // most)))
    return max(1, min(most, -(-each // 16) * 16, rows))


def cuts(count: int, step: int) -> Iterator[slice]:
    """Yield slices of at most `step`."""
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def piece_rows(classes: int, cx: Context) -> int:
    """Return how many rows of a block the engine is handed at once."""
    return max(1, (PIECE if cx.host else DEVICE) // classes)


def flat(o: Operands, classes: int, cx: Context) -> Operands:
    """Return operands whose rows are one axis."""
    if o.x.ndim == 2:
        return o
    rows = prod(o.x.shape[:-1])

    def one(a: Array | None, wide: int = 0) -> Array | None:
        return None if a is None else cx.xp.reshape(a, (rows, wide) if wide else (rows,))

    soft = o.targets is not None and o.targets.ndim == o.x.ndim
    return Operands(
        cx.xp.reshape(o.x, (rows, o.x.shape[-1])), one(o.targets, classes if soft else 0),
        o.class_weight, one(o.sample_weight), one(o.where),
    )  # fmt: skip


def part(o: Operands, piece: slice, x: Array) -> Operands:
    """Return some rows of flat operands, with their logits."""
    targets, sample, where = (
        None if a is None else a[piece, ...] for a in (o.targets, o.sample_weight, o.where)
    )
    return Operands(x, targets, o.class_weight, sample, where)


def part_up(up: Upstream, piece: slice) -> Upstream:
    """Return some rows' upstream."""

    def one(v: Array | float | None) -> Array | float | None:
        return v if v is None or isinstance(v, float) or v.ndim == 0 else v[piece]

    return Upstream(one(up.row), one(up.weight), up.live)


def present(o: Operands, spec: Spec, cx: Context, classes: int, up: Upstream) -> Array | None:
    """Mark the rows that are there, or None for all.

    The others' features are selected to 0 before the product that sums over rows: there a NaN
    times a gradient of 0 would reach every class.
    """
    keep = prepare(o if spec.indexed else o._replace(targets=None), spec, cx, classes).keep
    if up.live is None:
        return keep
    return cx.xp.broadcast_to(up.live, (o.x.shape[0],)) if keep is None else keep & up.live


def weight_sum(o: Operands, spec: Spec, cx: Context, classes: int, step: int) -> Array:
    """Return the mean's denominator; soft targets are converted a block at a time."""
    if spec.indexed or not cx.eager:
        return total_weight(prepare(o, spec, cx, classes), o.x.shape[0], cx)
    parts = [
        total_weight(prepare(part(o, c, o.x[c, ...]), spec, cx, classes), c.stop - c.start, cx)
        for c in cuts(o.x.shape[0], step)
    ]
    zero = cx.xp.zeros((), dtype=cx.wide, device=cx.device)
    return exact_sum(cx, cx.xp.stack(parts)) if parts else zero
