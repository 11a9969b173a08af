"""Logits that are never all there: features @ weight.T + bias, a block of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import NamedTuple

from .._arrays.context import Context
from .._arrays.inspect import Array, dtype_name
from .options import Cotangent, Operands, Options
from .reduce import exact_sum
from .row_blocks import DEVICE
from .targets import prepare, total_weight

LOGITS_BUDGET_BYTES = (
    160 * 2**20
)  # bytes of logits: matrix products gain little from more rows than that
TRACED = LOGITS_BUDGET_BYTES // 4  # where a compiler holds a few arrays of the block's size
# On a GPU, logits, what a block has beside them, and sums that are wider than their gradient. Each
# block passes over the weight's gradient, often larger than its logits: few large ones are faster.
ON_GPU = 576 * 2**20
TILE = 128  # rows that a GPU's matrix product computes together: a part of them costs as much
WEIGHT_CHUNK = 2**22  # elements handed to the engine, or of a converted weight, at a time


class Linear(NamedTuple):
    """What turns features into logits."""

    weight: Array  # (classes, features)
    bias: Array | None  # (classes,)
    block_rows: int | None  # None: chosen from the shape


def block_rows(
    rows: int, classes: int, linear: Linear, cx: Context, taken: int = 0, beside: int = 0
) -> int:
    """Return how many rows of logits are held at once: from the shape alone, blocks of one size.

    Bytes of a GPU's room that others need: `taken` in all, `beside` a row.
    """
    if linear.block_rows is not None:
        return max(1, min(rows, linear.block_rows))
    size = 8 if dtype_name(cx.compute_dtype) == "float64" else 4
    tile, room, each = (
        16,
        (LOGITS_BUDGET_BYTES if cx.inplace_ok else TRACED),
        size * max(1, classes),
    )
    on_gpu = cx.inplace_ok and not cx.on_host
    if on_gpu:
        room, each = ON_GPU - taken, each + beside
    most = max(1, room // each)
    if on_gpu and most >= TILE:
        tile = TILE
        most -= most % TILE
    each = -(-rows // max(1, -(-rows // most)))
    return max(1, min(most, -(-each // tile) * tile, rows))


def wide_sums(sizes: dict[str, int], kind: str) -> dict[str, int]:
    """Return which gradients of 16-bit arrays are summed in float32, and the bytes of each sum.

    A large weight's sum in float32 would be larger than all else together: it is kept in bfloat16,
    which rounds it once a block. float16 could not hold it: it ends at 65504 and at 6e-8, and what
    a loss scale in the backward pass would have lifted is lost by then.
    """
    most = {"weight": ON_GPU // 2, "x": ON_GPU // 8}
    return {
        name: 4 * size
        for name, size in sizes.items()
        if kind == "float16" or 4 * size <= most[name]
    }


def lift(o: Operands, options: Options, cx: Context, cotangent: Array | float) -> Array:
    """Return a power of 2 by which logits' gradients fill float16, none of them infinite.

    A probability of 1e-6 over 8192 rows is below float16's least number: gradients are multiplied
    by this before they are rounded, and the products divided by it. A logit's gradient is at most
    upstream · sample weight · largest class weight · sum of the targets; the term of z_loss stays
    within its room up to a logsumexp of 2^13.
    """
    xp = cx.xp

    def largest(a: Array) -> Array:
        a = xp.abs(cx.cast(a, cx.compute_dtype))
        # What an absent row holds is exempt from every rule.
        return xp.max(xp.where(xp.isfinite(a), a, xp.zeros_like(a)))

    bound = xp.ones((), dtype=cx.compute_dtype, device=cx.device)
    for a in (o.class_weight, o.sample_weight, None if isinstance(cotangent, float) else cotangent):
        if a is not None and a.ndim and 0 not in a.shape:
            bound = bound * largest(a)
    t = o.targets
    if not options.indexed and t is not None and 0 not in t.shape:
        total = largest(xp.sum(t, axis=-1, dtype=cx.compute_dtype))
        bound = bound * xp.where(total > 1, total, xp.ones_like(total))
    room = 2.0**15 / (1 + 2 * options.z_loss * 2.0**13)
    scale = xp.pow(xp.full_like(bound, 2.0), xp.floor(xp.log2(room / bound)))
    usable = xp.isfinite(scale) & (scale > 0)
    return xp.where(usable, scale, xp.ones_like(scale))


def cuts(count: int, step: int) -> Iterator[slice]:
    """Yield slices of at most `step`."""
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def piece_rows(classes: int, cx: Context, grad: bool) -> int:
    """Return how many rows of a block the engine is handed at once.

    What it makes of them is a gradient as large as they are; without one a GPU takes them all.
    """
    if not cx.on_host and not grad:
        return 2**31
    return max(1, (WEIGHT_CHUNK if cx.on_host else DEVICE) // max(1, classes))


def flat(o: Operands, classes: int, cx: Context) -> Operands:
    """Return operands whose rows are one axis."""
    if o.x.ndim == 2:
        return o
    rows = prod(o.x.shape[:-1])

    def one(a: Array | None, wide: int = 0) -> Array | None:
        return None if a is None else cx.xp.reshape(a, (rows, wide) if wide else (rows,))

    soft = o.targets is not None and o.targets.ndim == o.x.ndim
    return Operands(
        cx.xp.reshape(o.x, (rows, o.x.shape[-1])),
        one(o.targets, classes if soft else 0),
        o.class_weight,
        one(o.sample_weight),
        one(o.where),
    )


def part(o: Operands, piece: slice, x: Array) -> Operands:
    """Return some rows of flat operands, with their logits."""
    targets, sample, where = (
        None if a is None else a[piece, ...] for a in (o.targets, o.sample_weight, o.where)
    )
    return Operands(x, targets, o.class_weight, sample, where)


def part_up(cotangent: Cotangent, piece: slice) -> Cotangent:
    """Return some rows' upstream."""

    def one(v: Array | float | None) -> Array | float | None:
        return v if v is None or isinstance(v, float) or v.ndim == 0 else v[piece]

    return Cotangent(one(cotangent.row_loss), one(cotangent.row_weight), cotangent.any_row_counts)


def present(
    o: Operands, options: Options, cx: Context, classes: int, cotangent: Cotangent
) -> Array | None:
    """Mark the rows that are there, or None for all.

    The others' features are selected to 0 before the product that sums over rows: there a NaN
    times a gradient of 0 would reach every class.
    """
    keep = prepare(
        o if options.indexed else o._replace(targets=None), options, cx, classes
    ).row_present
    if cotangent.any_row_counts is None:
        return keep
    return (
        cx.xp.broadcast_to(cotangent.any_row_counts, (o.x.shape[0],))
        if keep is None
        else keep & cotangent.any_row_counts
    )


def weight_sum(o: Operands, options: Options, cx: Context, classes: int, step: int) -> Array:
    """Return the mean's denominator; soft targets are converted a block at a time."""
    if options.indexed or not cx.inplace_ok:
        return total_weight(prepare(o, options, cx, classes), o.x.shape[0], cx)
    parts = [
        total_weight(prepare(part(o, c, o.x[c, ...]), options, cx, classes), c.stop - c.start, cx)
        for c in cuts(o.x.shape[0], step)
    ]
    zero = cx.xp.zeros((), dtype=cx.sum_dtype, device=cx.device)
    return exact_sum(cx, cx.xp.stack(parts)) if parts else zero
