"""One slice of the class axis: by a compiled engine where one can, otherwise by core in row blocks.

A slice is a rank's shard, or a chunk of an array in chunks. The functions for shards take targets
that count labels from the shard's first class, and RowStats. Those for chunks take a chunk's
operands as they came, and statistics packed into one array.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._arrays.context import read
from .._arrays.inspect import Array
from ..core import class_shards, class_slices
from ..core.call import LossCall
from ..core.options import UNIT_COTANGENT, Cotangent, Operands, Options, Outcome, Outputs
from ..core.row_stats import RowStats
from ..core.targets import Targets
from . import Engine, EngineUnavailable, choose, generic


def shard_stats(call: LossCall, t: Targets) -> RowStats:
    """Return the statistics of a shard; the call's logits are (*rows, classes of the shard)."""
    x, options, cx = call.operands.x, call.options, call.cx
    if not cx.inplace_ok:
        return class_shards.stats(x, t, options, cx)
    engine = _compiled_engine(call)
    if engine is not None:
        return _compiled_stats(engine, call, t)

    def part(o: Operands, *given: Any) -> Outcome:
        return Outcome(stats=class_shards.stats(o.x, _targets(given[-1], t), options, cx))

    of_rows = t._replace(class_weight=None)
    stats: Any = _in_blocks(call, Outputs(stats=True), part, saved=of_rows).stats
    return RowStats(*stats)


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

    def part(o: Operands, *_: Any) -> Outcome:
        return Outcome(rows=class_slices.stats(o, options, classes, start))

    packed: Any = _in_blocks(call, Outputs(rows=True), part).rows
    return packed


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
    cx, engine = call.cx, _chunk_engine(call) if want == "x" else None
    if engine is not None:
        t = class_slices.slice_targets(o, options, cx, classes, start)
        return _gradient(engine, call, class_slices.unpack(packed, cx), t, cotangent)

    def part(o: Operands, *given: Any) -> Outcome:
        up, (own, second) = given[-2:]
        g = class_slices.gradients(o, own, second, up, options, classes, start, want)
        return Outcome(grad=g)

    made: Any = _in_blocks(call, Outputs(grad=True), part, cotangent, (packed, sums)).grad
    return made


def _in_blocks(
    call: LossCall,
    outputs: Outputs,
    by: Callable[..., Outcome],
    cotangent: Cotangent = UNIT_COTANGENT,
    saved: Any = None,
) -> Outcome:
    """Return what core makes of a slice, computed by blocks of rows.

    `by` takes what `core.family.evaluate` takes: as the last two the block's cotangent and its part
    of `saved`.
    """
    width = max(1, call.operands.x.shape[-1])
    return generic.run(call._replace(classes=width), outputs, cotangent, saved, by)


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
    x, options, cx = call.operands.x, call.options, call.cx
    by_core = options.z_loss and t.label_weight is not None
    if engine is not None and x.shape[-1] >= engine.save_stats_from and not by_core:
        return _compiled_gradient(engine, call, s, t, cotangent)

    def part(o: Operands, *given: Any) -> Outcome:
        up, known = given[-2:]
        stats, targets = RowStats(*known[: len(s)]), _targets(known[len(s) :], t)
        g = class_shards.gradient(o.x, stats, targets, options, cx, up)
        return Outcome(grad=cx.cast(g, x.dtype))

    saved = *s, *t._replace(class_weight=None)
    made: Any = _in_blocks(call, Outputs(grad=True), part, cotangent, saved).grad
    return made


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


def _targets(known: tuple[Any, ...], t: Targets) -> Targets:
    """Return the targets of a row block, which are labels: but for class weights, (*rows) each."""
    return Targets(*known)._replace(class_weight=t.class_weight)
