"""Logits that never exist as a whole: features @ weight.T + bias, a block of rows at a time."""

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

# Bytes of one block's logits on the host: more rows make a matrix product hardly faster.
LOGITS_BUDGET_BYTES = 160 * 2**20
# The same where a compiler traces, which holds several arrays of the block's size at once.
TRACED_BUDGET_BYTES = LOGITS_BUDGET_BYTES // 4
# Bytes on a GPU, for the logits, for what a block needs beside them, and for sums that are wider
# than their gradient. Every block passes over the weight's gradient, which is often larger than
# the block's logits: few large blocks are faster.
GPU_BUDGET_BYTES = 576 * 2**20
TILE = 128  # rows that a GPU's matrix product computes together: a part of a tile costs a whole one
WEIGHT_CHUNK = 2**22  # elements handed to the engine, or of a converted weight, at a time


class Linear(NamedTuple):
    """The linear layer that turns features into logits."""

    weight: Array  # (classes, features)
    bias: Array | None  # (classes,)
    block_rows: int | None  # None: chosen from the shape


def block_rows(
    rows: int, classes: int, linear: Linear, cx: Context, taken: int = 0, beside: int = 0
) -> int:
    """Return how many rows of logits exist at once: from the shape alone, in blocks of one size.

    Of a GPU's budget, `taken` bytes are used otherwise, and `beside` bytes a row.
    """
    if linear.block_rows is not None:
        return max(1, min(rows, linear.block_rows))
    itemsize = 8 if dtype_name(cx.compute_dtype) == "float64" else 4
    tile = 16
    budget = LOGITS_BUDGET_BYTES if cx.inplace_ok else TRACED_BUDGET_BYTES
    bytes_per_row = itemsize * max(1, classes)
    on_gpu = cx.inplace_ok and not cx.on_host
    if on_gpu:
        budget, bytes_per_row = GPU_BUDGET_BYTES - taken, bytes_per_row + beside
    largest = max(1, budget // bytes_per_row)
    if on_gpu and largest >= TILE:
        tile = TILE
        largest -= largest % TILE
    blocks = max(1, -(-rows // largest))
    even = -(-rows // blocks)
    return max(1, min(largest, -(-even // tile) * tile, rows))


def wide_sums(sizes: dict[str, int], kind: str) -> dict[str, int]:
    """Return which gradients of 16-bit arrays are summed in float32, and the bytes of each sum.

    `sizes` are the gradients' numbers of elements. A large weight's sum in float32 would be larger
    than everything else together: it is kept in bfloat16, which rounds it once a block. float16
    cannot hold such a sum: beyond 65504 it is infinite, and below 6e-8 it is 0, which a loss scale
    in the backward pass cannot undo.
    """
    largest = {"weight": GPU_BUDGET_BYTES // 2, "x": GPU_BUDGET_BYTES // 8}
    return {
        name: 4 * size
        for name, size in sizes.items()
        if kind == "float16" or 4 * size <= largest[name]
    }


def gradient_scale(o: Operands, options: Options, cx: Context, cotangent: Array | float) -> Array:
    """Return a power of 2 by which logits' gradients fill float16, none of them infinite.

    A probability of 1e-6 over 8192 rows is below float16's smallest number: gradients are
    multiplied by this scale before they are rounded, and matrix products of them divided by it. A
    logit's gradient is at most cotangent · sample weight · largest class weight · sum of the
    targets; the factor for z_loss holds up to a log-sum-exp of 2^13.
    """
    xp = cx.xp

    def largest(a: Array) -> Array:
        a = xp.abs(cx.cast(a, cx.compute_dtype))
        # An absent row may hold anything, infinities and NaN included.
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


def spans(count: int, step: int) -> Iterator[slice]:
    """Yield the slices of range(count) that are `step` long, the last one shorter."""
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def engine_rows(classes: int, cx: Context, grad: bool) -> int:
    """Return how many rows of a block the engine is handed at once.

    For a gradient it makes an array as large as the logits it is handed; without one a GPU takes
    them all.
    """
    if not cx.on_host and not grad:
        return 2**31
    return max(1, (WEIGHT_CHUNK if cx.on_host else DEVICE) // max(1, classes))


def one_row_axis(o: Operands, classes: int, cx: Context) -> Operands:
    """Return operands whose rows are one axis, features last."""
    if o.x.ndim == 2:
        return o
    lengths = tuple(o.x.shape[:-1])
    unknown = any(n is None for n in lengths)  # while a graph is traced
    rows = -1 if unknown else prod(lengths)

    def flat(a: Array | None, classes: int = 0) -> Array | None:
        return None if a is None else cx.xp.reshape(a, (rows, classes) if classes else (rows,))

    soft = o.targets is not None and o.targets.ndim == o.x.ndim
    k = 0 if o.indices is None else o.indices.shape[-1]
    return Operands(
        cx.xp.reshape(o.x, (rows, o.x.shape[-1])),
        flat(o.targets, k or classes if soft else 0),
        o.class_weight,
        flat(o.sample_weight),
        flat(o.where),
        indices=flat(o.indices, k),
    )


def rows_of(o: Operands, rows: slice, x: Array) -> Operands:
    """Return some rows of operands with one row axis; x is what stands for their logits."""
    targets, sample_weight, where, indices = (
        None if a is None else a[rows, ...]
        for a in (o.targets, o.sample_weight, o.where, o.indices)
    )
    return Operands(x, targets, o.class_weight, sample_weight, where, indices=indices)


def cotangent_of(cotangent: Cotangent, rows: slice) -> Cotangent:
    """Return the cotangent of some rows."""

    def part(v: Array | float | None) -> Array | float | None:
        return v if v is None or isinstance(v, float) or v.ndim == 0 else v[rows]

    return Cotangent(part(cotangent.row_loss), part(cotangent.row_weight), cotangent.any_row_counts)


def present_rows(
    o: Operands, options: Options, cx: Context, classes: int, cotangent: Cotangent
) -> Array | None:
    """Mark the rows that are present, (rows,), or return None where all are.

    The features of the other rows are selected to 0 before the product that sums over rows: there
    a NaN times a gradient of 0 would reach the gradient of every class.
    """
    # Class weights make no row absent, and of a sharded layer a rank has only a slice of them, in
    # which the labels of other slices have no place.
    o = o._replace(class_weight=None)
    has_labels = options.indexed or o.indices is not None
    labels_or_none = o if has_labels else o._replace(targets=None)
    present = prepare(labels_or_none, options, cx, classes).row_present
    any_counts = cotangent.any_row_counts
    if any_counts is None:
        return present
    if present is None:
        return cx.xp.broadcast_to(any_counts, (o.x.shape[0],))
    return present & any_counts


def weight_sum(o: Operands, options: Options, cx: Context, classes: int, step: int) -> Array:
    """Return the mean's denominator; soft targets are converted `step` rows at a time."""
    if options.indexed or not cx.inplace_ok:
        return total_weight(prepare(o, options, cx, classes), o.x.shape[0], cx)
    parts = []
    for rows in spans(o.x.shape[0], step):
        t = prepare(rows_of(o, rows, o.x[rows, ...]), options, cx, classes)
        parts.append(total_weight(t, rows.stop - rows.start, cx))
    zero = cx.xp.zeros((), dtype=cx.sum_dtype, device=cx.device)
    return exact_sum(cx, cx.xp.stack(parts)) if parts else zero
