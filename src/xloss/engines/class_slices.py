"""One slice of the class axis: by a compiled engine where one can, otherwise by core in row blocks.

A slice is a rank's shard, or a chunk of an array in chunks. The functions for shards take targets
that count labels from the shard's first class, and RowStats. Those for chunks take a chunk's
operands as they came, and statistics packed into one array.
"""

from __future__ import annotations

from math import prod
from typing import Any

from .._arrays.context import read
from .._arrays.inspect import Array
from ..core import class_shards, class_slices
from ..core.call import LossCall
from ..core.options import Cotangent, Operands, Options, Outputs
from ..core.row_blocks import block_operands, block_slices, joined
from ..core.row_stats import RowStats
from ..core.targets import Targets
from . import Engine, EngineUnavailable, choose
from .generic import cut_cotangent


def shard_stats(call: LossCall, t: Targets) -> RowStats:
    """Return the statistics of a shard; the call's logits are (*rows, classes of the shard)."""
    x, options, cx = call.operands.x, call.options, call.cx
    if not cx.inplace_ok:
        return class_shards.stats(x, t, options, cx)
    engine = _compiled_engine(call)
    if engine is not None:
        return _compiled_stats(engine, call, t)
    xp, rows = cx.xp, tuple(x.shape[:-1])
    parts = [
        class_shards.stats(_block(xp, x, block, 2), _block_targets(xp, t, block), options, cx)
        for block in block_slices(rows, max(1, x.shape[-1]), cx)
    ]
    return RowStats(*(joined(column, rows, cx) for column in zip(*parts, strict=True)))


def shard_gradient(call: LossCall, s: RowStats, t: Targets, cotangent: Cotangent) -> Array:
    """Return the gradient to a shard, in its dtype; s: of the whole rows."""
    x, cx = call.operands.x, call.cx
    if not cx.inplace_ok:
        return cx.cast(class_shards.gradient(x, s, t, call.options, cx, cotangent), x.dtype)
    return _gradient(_compiled_engine(call), call, s, t, cotangent)


def chunk_stats(o: Operands, options: Options, classes: int, start: int) -> Array:
    """Return packed statistics, (*rows, numbers), of the chunk that begins at class `start`."""
    call = _chunk_call(o, options, classes)
    cx, engine = call.cx, _chunk_engine(call)
    if engine is not None:
        t = class_slices.slice_targets(o, options, cx, classes, start)
        return class_slices.pack(_compiled_stats(engine, call, t), cx)
    rows, width = tuple(o.x.shape[:-1]), o.x.shape[-1]
    parts = [
        class_slices.stats(block_operands(cx.xp, o, block, width), options, classes, start)
        for block in block_slices(rows, max(1, width), cx)
    ]
    return cx.xp.reshape(cx.xp.concat(parts), (*rows, parts[0].shape[-1]))


def chunk_gradients(
    o: Operands,
    packed: Array,
    sums: Array | None,
    cotangent: Cotangent,
    options: Options,
    classes: int,
    start: int,
    want: str,
) -> Array:
    """Return a chunk's gradient to "x" or to soft "targets"; `packed`, `sums`: of whole rows."""
    call = _chunk_call(o, options, classes)
    cx, xp = call.cx, call.cx.xp
    engine = _chunk_engine(call) if want == "x" else None
    if engine is not None:
        t = class_slices.slice_targets(o, options, cx, classes, start)
        return _gradient(engine, call, class_slices.unpack(packed, cx), t, cotangent)
    like: Any = o.x if want == "x" else o.targets
    rows, width = tuple(o.x.shape[:-1]), o.x.shape[-1]
    out = xp.empty(like.shape, dtype=like.dtype)
    for block in block_slices(rows, max(1, width), cx):
        g = class_slices.gradients(
            block_operands(xp, o, block, width),
            _block(xp, packed, block, 2),
            None if sums is None else _block(xp, sums, block, 2),
            cut_cotangent(xp, cotangent, block),
            options,
            classes,
            start,
            want,
        )
        at = (*block, ...)
        out[at] = xp.reshape(g, out[at].shape)
    return out


def _chunk_call(o: Operands, options: Options, classes: int) -> LossCall:
    """Return the call on a chunk's operands; classes: of whole rows."""
    return LossCall(options.kind, options, class_slices.chunk_context(o.x), o, classes)


def _compiled_engine(call: LossCall) -> Engine | None:
    """Return the compiled engine that takes the pass over a slice's logits, if one does."""
    x, options = call.operands.x, call.options
    engine = choose(call.of(Operands(x)))
    if not engine.compiled or 0 in x.shape:
        return None
    # The kernels have no output for the sums over a slice that these two options need.
    for option in ("label_smoothing", "softcap"):
        if getattr(options, option):
            if options.engine is not None:
                raise EngineUnavailable(
                    f"engine {options.engine!r} cannot take this call: {option} of classes in parts"
                )
            return None
    return engine


def _chunk_engine(call: LossCall) -> Engine | None:
    """Return the compiled engine that takes a chunk with its labels, if one does."""
    by_label = call.options.kind == "cross_entropy" and call.options.indexed
    return _compiled_engine(call) if by_label else None


def _of_labels(
    call: LossCall, labels: Any, row_present: Array | None = None, z_loss: float = 0.0
) -> LossCall:
    """Return the engine's call on a slice, as of plain labels that are all in it."""
    options = Options("cross_entropy", indexed=True, z_loss=z_loss, engine=call.options.engine)
    x, cx = call.operands.x, read(call.cx, clean=True)
    return LossCall(call.name, options, cx, Operands(x, labels, where=row_present), x.shape[-1])


def _compiled_stats(engine: Engine, call: LossCall, t: Targets) -> RowStats:
    """Return a slice's statistics: the sums of exponentials by the engine, the labels' by core."""
    x, cx, xp = call.operands.x, call.cx, call.cx.xp
    labels: Any = xp.zeros(tuple(x.shape[:-1]), dtype=cx.label_dtype, device=cx.device)
    stats = engine.run(_of_labels(call, labels), Outputs(stats=True)).stats
    assert stats is not None
    m, tail_sum = stats
    # Where all classes are NaN or masked the kernel's maximum is -inf, which a merge would take for
    # a slice without a possible class, and lose the NaN.
    m = xp.where(tail_sum == tail_sum, m, xp.nan)
    at_label = cx.cast(cx.gather(x, t.labels), cx.compute_dtype)
    with cx.quiet():
        gap = cx.cast(m, cx.sum_dtype) - cx.cast(at_label, cx.sum_dtype)
        gap = xp.where(at_label == m, 0.0, gap)
    weight = cx.cast(t.label_local, cx.sum_dtype)
    return RowStats(m, tail_sum, weight, weight, xp.where(t.label_local, gap, 0.0))


def _gradient(
    engine: Engine | None, call: LossCall, s: RowStats, t: Targets, cotangent: Cotangent
) -> Array:
    """Return the gradient to a slice by the engine where it starts from statistics, else by core.

    A row of weight 0 whose log-sum-exp is infinite needs core: the kernel would multiply the two.
    """
    x, options, cx, xp = call.operands.x, call.options, call.cx, call.cx.xp
    by_engine = engine is not None and x.shape[-1] >= engine.save_stats_from
    if engine is not None and by_engine and not (options.z_loss and t.label_weight is not None):
        return _compiled_gradient(engine, call, s, t, cotangent)
    out = xp.empty(tuple(x.shape), dtype=x.dtype, device=cx.device)
    if 0 in x.shape:
        return out
    for block in block_slices(tuple(x.shape[:-1]), x.shape[-1], cx):
        g = class_shards.gradient(
            _block(xp, x, block, 2),
            RowStats(*(_block(xp, a, block, 1) if hasattr(a, "ndim") else a for a in s)),
            _block_targets(xp, t, block),
            options,
            cx,
            cut_cotangent(xp, cotangent, block),
        )
        at = (*block, ...)
        out[at] = xp.reshape(cx.cast(g, x.dtype), out[at].shape)
    return out


def _compiled_gradient(
    engine: Engine, call: LossCall, s: RowStats, t: Targets, cotangent: Cotangent
) -> Array:
    """Return the gradient to a slice by an engine, as of plain labels that are all in the slice."""
    x, options, cx, xp = call.operands.x, call.options, call.cx, call.cx.xp
    # What a row weighs, and the NaN of an invalid label, go into its cotangent.
    row: Any = cotangent.row_loss
    for weight in (t.sample_weight, t.label_weight):
        row = row if weight is None else row * weight
    if t.label_invalid is not None:
        zeros = xp.zeros(tuple(x.shape[:-1]), dtype=cx.sum_dtype, device=cx.device)
        row = xp.where(t.label_invalid, xp.nan, row + zeros)
    if not isinstance(row, float):
        row = cx.cast(xp.asarray(row), cx.sum_dtype)
    labels = _of_labels(call, t.labels, t.row_present, options.z_loss)
    row_cotangent = Cotangent(row, None, cotangent.any_row_counts)
    saved = xp.asarray(s.max), xp.asarray(s.tail_sum)  # of one row NumPy makes scalars
    g: Any = engine.run(labels, Outputs(grad=True), row_cotangent, saved).grad
    # A label outside the slice was given to the kernel as the slice's first class, whose gradient
    # is computed again without it.
    first = class_shards.gradient(
        x[..., :1], s, t._replace(label_local=xp.zeros_like(t.label_local)), options, cx, cotangent
    )
    g[..., 0] = xp.where(t.label_local, g[..., 0], cx.cast(first[..., 0], x.dtype))
    return g


def _block(xp: Any, a: Array, block: tuple[slice, ...], ndim: int) -> Array:
    """Return a row block of (*rows), or of (*rows, numbers) with ndim 2, its rows as one axis."""
    part = a[(*block, ...)]
    shape = (-1,) if ndim == 1 else (prod(part.shape[:-1]), part.shape[-1])
    return xp.reshape(part, shape)


def _block_targets(xp: Any, t: Targets, block: tuple[slice, ...]) -> Targets:
    """Return the targets of a row block, which are labels: but for class weights, (*rows) each."""
    arrays = {f: a for f, a in t._asdict().items() if a is not None and f != "class_weight"}
    return t._replace(**{f: _block(xp, a, block, 1) for f, a in arrays.items()})
