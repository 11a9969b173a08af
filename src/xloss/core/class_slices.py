"""Rows cut along the class axis: statistics of each piece, merged, then used on each piece."""

from __future__ import annotations

from .._arrays.context import Context, context
from .._arrays.inspect import Array, namespace
from . import probabilities, softmax
from .family import GIVEN, TARGETLESS, settle_grad, settle_rows, settle_up
from .options import Cotangent, Operands, Options
from .row_stats import RowStats, exponentials, log1p_rest, merge, row_stats
from .smoothing import target_gradient
from .targets import Targets, prepare

FIELDS = RowStats._fields


def chunk_context(x: Array) -> Context:
    """Return the context of one piece of data; its values are read for no check."""
    return context(x, namespace(x))


def piece_targets(o: Operands, options: Options, cx: Context, classes: int, start: int) -> Targets:
    """Return the targets as the piece of classes that begins at `start` sees them."""
    t = prepare(o, options, cx, classes)
    stop = start + o.x.shape[-1]
    weight = None if t.class_weight is None else t.class_weight[start:stop]
    if t.labels is None:
        return t._replace(class_weight=weight)
    here = (t.labels >= start) & (t.labels < stop)
    local = cx.xp.where(here, t.labels - start, cx.xp.zeros_like(t.labels))
    return t._replace(labels=local, label_local=here, class_weight=weight)


def soft_operands(o: Operands, start: int) -> Operands:
    """Cut the class weights of a piece with soft targets, whose every array is local."""
    if o.class_weight is None or o.targets is None or o.targets.ndim != o.x.ndim:
        return o
    return o._replace(class_weight=o.class_weight[start : start + o.x.shape[-1]])


def piece(
    o: Operands, options: Options, classes: int, start: int
) -> tuple[Array, Operands, Targets, Context]:
    """Return (x or z) in C order, operands, targets and context of a piece."""
    cx = chunk_context(o.x)
    if options.indexed:
        t = piece_targets(o, options, cx, classes, start)
    else:
        o = soft_operands(o, start)
        t = prepare(o, options, cx, o.x.shape[-1])
    return cx.c_order(cx.cast(o.x, cx.compute_dtype)), o, t, cx


def stats(o: Operands, options: Options, classes: int, start: int) -> Array:
    """Return a piece's statistics, (*rows, len(FIELDS)), wide."""
    x, o, t, cx = piece(o, options, classes, start)
    with cx.quiet():
        if options.kind in GIVEN:
            return pack(probabilities.row_stats(x, t, options, cx), cx)
        z = softmax.link(x, options, cx)
        return pack(row_stats(z, t, options, cx), cx)


def pack(s: RowStats, cx: Context) -> Array:
    """Put statistics side by side."""
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
    made = RowStats(*(packed[..., i] for i in range(len(FIELDS))))
    return made._replace(max=cx.cast(made.max, cx.compute_dtype))


def merged(packed: list[Array], options: Options, like: Array) -> Array:
    """Merge the statistics of the pieces of the same rows: in pairs, as rounding grows least."""
    cx = chunk_context(like)
    with cx.quiet():
        while len(packed) > 1:
            pairs = zip(packed[::2], packed[1::2], strict=False)
            odd = packed[-1:] if len(packed) % 2 else []
            packed = [_joined(a, b, options, cx) for a, b in pairs] + odd
        return packed[0]


def _joined(a: Array, b: Array, options: Options, cx: Context) -> Array:
    if options.kind in GIVEN:  # sums about a maximum of 0
        return a + b
    return pack(merge(unpack(a, cx), unpack(b, cx), cx), cx)


def seconds(o: Operands, packed: Array, options: Options, classes: int, start: int) -> Array | None:
    """Return a piece's share of the sums that need the whole row's statistics."""
    x, o, t, cx = piece(o, options, classes, start)
    with cx.quiet():
        z = softmax.link(x, options, cx)
        sums = softmax.second_sums(z, unpack(packed, cx), t, options, cx)
        return None if sums is None else cx.xp.stack(list(sums), axis=-1)


def needs_seconds(options: Options) -> bool:
    """Tell whether a kind has sums that need the whole row's statistics."""
    return options.kind == "entropy" or (
        options.kind == "focal_loss" and not (options.indexed and not options.label_smoothing)
    )


def row_targets(o: Operands, s: RowStats, options: Options, cx: Context, classes: int) -> Targets:
    """Return targets for the row stage: soft ones weigh what their pieces summed to."""
    if options.indexed or options.kind in TARGETLESS:
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
    """Return row losses and row weights, wide."""
    cx = chunk_context(like)
    with cx.quiet():
        s = unpack(packed, cx)
        t = row_targets(o, s, options, cx, classes)
        second = None if sums is None else tuple(sums[..., i] for i in range(sums.shape[-1]))
        made = settle_rows(softmax.losses(s, t, options, cx, second), t, cx)
        return made, cx.xp.ones_like(made) if t.row_weight is None else t.row_weight


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
    """Return a piece's gradient to x or to soft targets."""
    x, o, t, cx = piece(o, options, classes, start)
    with cx.quiet():
        s = unpack(packed, cx)
        whole = row_targets(o, s, options, cx, classes)
        t = t._replace(row_weight=whole.row_weight)
        second = None if sums is None else tuple(sums[..., i] for i in range(sums.shape[-1]))
        eff = settle_up(cotangent, t, cx)
        if want == "targets":
            g = _target_gradient(x, o, t, s, second, options, cx, eff)
            return cx.cast(settle_grad(g, t, options, cx, cotangent), o.targets.dtype)  # type: ignore[union-attr]
        if options.kind in GIVEN:
            g = probabilities.gradient(x, t, options, cx, eff.row_loss, s)
        else:
            z = softmax.link(x, options, cx)
            got = softmax.parts(z, cx, exponentials(z, cx, s))
            g = softmax.gradient(x, z, t, options, cx, eff.row_loss, got, s, second)
        return cx.cast(settle_grad(g, t, options, cx, cotangent), o.x.dtype)


def _target_gradient(
    x: Array,
    o: Operands,
    t: Targets,
    s: RowStats,
    sums: softmax.Sums | None,
    options: Options,
    cx: Context,
    cotangent: Cotangent,
) -> Array:
    uniform = lse = None
    if options.kind in GIVEN:
        value, there = (
            probabilities.surprise(x, options, cx),
            probabilities.possible(x, options, cx),
        )
        if options.label_smoothing and s.possible_dot is not None:
            uniform = s.possible_dot / s.possible
    else:
        z = softmax.link(x, options, cx)
        got = softmax.parts(z, cx, exponentials(z, cx, s))
        value, there, lse = softmax.class_losses(got, options, cx), z != -cx.xp.inf, got.lse
        if options.label_smoothing and sums is not None:
            uniform = sums[2] / s.possible
        elif options.label_smoothing:
            uniform = (s.possible_weight * log1p_rest(s, cx) + s.possible_dot) / s.possible
    return target_gradient(
        value,
        there,
        lse,
        t,
        options,
        cx,
        cotangent.row_loss,
        cotangent.row_weight,
        uniform,
        s.target_sum,
    )


def elements(o: Operands, packed: Array, options: Options) -> Array:
    """Return a piece of softmax or of its logarithm."""
    cx = chunk_context(o.x)
    with cx.quiet():
        z = cx.c_order(cx.cast(o.x, cx.compute_dtype))
        got = softmax.parts(z, cx, exponentials(z, cx, unpack(packed, cx)))
        return got.p if options.kind == "softmax" else -got.nll
