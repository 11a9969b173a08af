"""Rows cut along the class axis in one process: statistics of each class slice, merged in pairs.

Every function here takes the operands of one slice, whose first class is `start`, and `classes`,
the number of classes of the whole rows. Packed statistics are one array (*rows, len(FIELDS)) in the
dtype of the sums. In `class_shards` the slices are on several ranks instead.
"""

from __future__ import annotations

from typing import Any

from .._arrays.context import Context, context
from .._arrays.inspect import Array, namespace
from . import probabilities, softmax
from .family import (
    PROBABILITY_KINDS,
    TARGETLESS_KINDS,
    select_cotangent,
    select_gradient,
    select_rows,
)
from .options import Cotangent, Operands, Options
from .row_stats import RowStats, exponentials, log1p_tail, merge, row_stats
from .smoothing import target_gradient
from .targets import Targets, prepare

FIELDS = RowStats._fields


def chunk_context(x: Array) -> Context:
    """Return the context of one slice's data, none of whose values are read by Python."""
    return context(x, namespace(x))


def slice_targets(o: Operands, options: Options, cx: Context, classes: int, start: int) -> Targets:
    """Return the targets as the slice sees them: labels counted from its first class."""
    t = prepare(o, options, cx, classes)
    stop = start + o.x.shape[-1]
    weight = None if t.class_weight is None else t.class_weight[start:stop]
    if t.labels is None:
        return t._replace(class_weight=weight)
    local = (t.labels >= start) & (t.labels < stop)
    local_labels = cx.xp.where(local, t.labels - start, cx.xp.zeros_like(t.labels))
    return t._replace(labels=local_labels, label_local=local, class_weight=weight)


def _with_slice_weight(o: Operands, start: int) -> Operands:
    """Cut the class weights beside soft targets, which are a slice already."""
    if o.class_weight is None or o.targets is None or o.targets.ndim != o.x.ndim:
        return o
    return o._replace(class_weight=o.class_weight[start : start + o.x.shape[-1]])


def _slice_inputs(
    o: Operands, options: Options, classes: int, start: int
) -> tuple[Array, Operands, Targets, Context]:
    """Return x in C order, operands, targets and context of a slice."""
    cx = chunk_context(o.x)
    if options.indexed:
        t = slice_targets(o, options, cx, classes, start)
    else:
        o = _with_slice_weight(o, start)
        t = prepare(o, options, cx, o.x.shape[-1])
    return cx.c_order(cx.cast(o.x, cx.compute_dtype)), o, t, cx


def stats(o: Operands, options: Options, classes: int, start: int) -> Array:
    """Return a slice's packed statistics."""
    x, o, t, cx = _slice_inputs(o, options, classes, start)
    with cx.quiet():
        if options.kind in PROBABILITY_KINDS:
            return pack(probabilities.row_stats(x, t, options, cx), cx)
        z = softmax.softcapped(x, options, cx)
        return pack(row_stats(z, t, options, cx), cx)


def pack(s: RowStats, cx: Context) -> Array:
    """Put statistics side by side; a statistic that is not there becomes 0."""
    xp = cx.xp
    zero = xp.zeros_like(s.tail_sum)
    values = (getattr(s, name) for name in FIELDS)
    return xp.stack(
        [
            zero + (0.0 if v is None else v)
            if v is None or isinstance(v, float)
            else cx.cast(v, cx.sum_dtype)
            for v in values
        ],
        axis=-1,
    )


def unpack(packed: Array, cx: Context) -> RowStats:
    """Take packed statistics apart."""
    s = RowStats(*(packed[..., i] for i in range(len(FIELDS))))
    return s._replace(max=cx.cast(s.max, cx.compute_dtype))


def merged(packed: list[Array], options: Options, like: Array) -> Array:
    """Merge the packed statistics of all slices of the same rows; `like` has the logits' dtype.

    In pairs: the rounding error then grows with the logarithm of their number.
    """
    cx = chunk_context(like)
    with cx.quiet():
        while len(packed) > 1:
            pairs = zip(packed[::2], packed[1::2], strict=False)
            odd = packed[-1:] if len(packed) % 2 else []
            packed = [_merged_pair(a, b, options, cx) for a, b in pairs] + odd
        return packed[0]


def _merged_pair(a: Array, b: Array, options: Options, cx: Context) -> Array:
    if options.kind in PROBABILITY_KINDS:  # every slice's sums are about the same maximum, 0
        return a + b
    return pack(merge(unpack(a, cx), unpack(b, cx), cx), cx)


def second_sums(
    o: Operands, packed: Array, options: Options, classes: int, start: int
) -> Array | None:
    """Return a slice's share of the sums that need the whole rows' statistics, (*rows, sums)."""
    x, o, t, cx = _slice_inputs(o, options, classes, start)
    with cx.quiet():
        z = softmax.softcapped(x, options, cx)
        sums = softmax.second_sums(z, unpack(packed, cx), t, options, cx)
        return None if sums is None else cx.xp.stack(list(sums), axis=-1)


def needs_second_sums(options: Options) -> bool:
    """Tell whether a loss has sums that need the whole rows' statistics."""
    return options.kind == "entropy" or (
        options.kind == "focal_loss" and not (options.indexed and not options.label_smoothing)
    )


def _row_targets(o: Operands, s: RowStats, options: Options, cx: Context, classes: int) -> Targets:
    """Return targets that weigh the rows: soft ones by the sums over all slices."""
    if options.indexed or options.kind in TARGETLESS_KINDS:
        return prepare(o, options, cx, classes)
    bare = o._replace(targets=None, class_weight=None)
    t = prepare(bare, options, cx, classes)
    weight = s.target_weight if t.sample_weight is None else t.sample_weight * s.target_weight
    return t._replace(
        row_weight=weight if t.row_present is None else cx.xp.where(t.row_present, weight, 0.0)
    )


def rows(
    o: Operands, packed: Array, sums: Array | None, options: Options, classes: int, like: Array
) -> tuple[Array, Array]:
    """Return row losses and row weights in the sums' dtype, from the whole rows' statistics."""
    cx = chunk_context(like)
    with cx.quiet():
        s = unpack(packed, cx)
        t = _row_targets(o, s, options, cx, classes)
        losses = select_rows(softmax.losses(s, t, options, cx, _unstacked(sums)), t, cx)
        return losses, cx.xp.ones_like(losses) if t.row_weight is None else t.row_weight


def _unstacked(sums: Array | None) -> softmax.Sums | None:
    return None if sums is None else tuple(sums[..., i] for i in range(sums.shape[-1]))


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
    """Return a slice's gradient to x or, where `want` is "targets", to soft targets.

    `packed` and `sums` are the statistics and the second sums of the whole rows.
    """
    x, o, t, cx = _slice_inputs(o, options, classes, start)
    with cx.quiet():
        s = unpack(packed, cx)
        t = t._replace(row_weight=_row_targets(o, s, options, cx, classes).row_weight)
        second = _unstacked(sums)
        selected = select_cotangent(cotangent, t, cx)
        from_logits = options.kind not in PROBABILITY_KINDS
        if from_logits:
            z = softmax.softcapped(x, options, cx)
            e = exponentials(z, cx, s)
            parts = softmax.parts(z, cx, e)
        if want != "targets":
            row = selected.row_loss
            if from_logits:
                g = softmax.gradient(x, z, t, options, cx, row, parts, s, second, e)
            else:
                g = probabilities.gradient(x, t, options, cx, row, s)
            return cx.cast(select_gradient(g, t, options, cx, cotangent), o.x.dtype)
        uniform = lse = None
        if from_logits:
            class_loss, lse = softmax.class_losses(parts, options, cx), parts.lse
            possible = z != -cx.xp.inf
        else:
            class_loss = probabilities.nll(x, options, cx)
            possible = probabilities.possible(x, options, cx)
        if options.label_smoothing:
            weighted: Any = s.possible_gap
            if second is not None:
                weighted = second[2]
            elif from_logits:
                weighted = s.possible_weight * log1p_tail(s, cx) + s.possible_gap
            uniform = weighted / s.possible
        whole = uniform, s.target_sum
        g = target_gradient(class_loss, possible, lse, t, options, cx, selected, *whole)
        return cx.cast(select_gradient(g, t, options, cx, cotangent), o.targets.dtype)  # type: ignore[union-attr]


def elements(o: Operands, packed: Array, options: Options) -> Array:
    """Return a slice of the softmax or of its logarithm."""
    cx = chunk_context(o.x)
    with cx.quiet():
        z = cx.c_order(cx.cast(o.x, cx.compute_dtype))
        parts = softmax.parts(z, cx, exponentials(z, cx, unpack(packed, cx)))
        return parts.p if options.kind == "softmax" else -parts.nll
