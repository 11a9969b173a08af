"""Rows whose classes are spread over ranks: what each finds, one maximum, one sum, one gradient."""

from __future__ import annotations

from typing import Any, NamedTuple

from .._arrays.context import Context
from .._arrays.inspect import Array
from . import softmax
from .family import settle_grad, settle_rows, settle_up
from .options import Cotangent, Operands, Options
from .row_stats import RowStats, exponentials, row_stats
from .targets import Targets, prepare


class Shard(NamedTuple):
    """Which classes a rank holds: a contiguous slice."""

    start: Any  # an int; an array where a compiler numbers the ranks
    size: int
    classes: int  # of all ranks
    most: int  # of any rank


def targets(o: Operands, options: Options, cx: Context, shard: Shard) -> Targets:
    """Return the targets as one rank sees them: labels counted from its first class.

    The label's weight is 0 on ranks that do not hold the label; `weight` is without it.
    """
    xp = cx.xp
    t = prepare(o._replace(class_weight=None), options, cx, shard.classes)
    labels: Any = t.labels
    here = (labels >= shard.start) & (labels < shard.start + shard.size)
    local = xp.where(here, labels - shard.start, xp.zeros_like(labels))
    t = t._replace(labels=cx.cast(local, cx.label_dtype), label_local=here)
    if o.class_weight is None:
        return t
    weight = cx.cast(o.class_weight, cx.compute_dtype)
    label_weight = xp.zeros(here.shape, dtype=cx.sum_dtype, device=cx.device)
    if shard.size:
        label_weight = xp.where(here, cx.cast(cx.take(weight, t.labels), cx.sum_dtype), 0.0)
    return t._replace(class_weight=weight, label_weight=label_weight)


def stats(x: Array, t: Targets, options: Options, cx: Context) -> RowStats:
    """Return the statistics of the shard of a block of rows."""
    with cx.quiet():
        if x.shape[-1] == 0:
            return _nothing(t, options, cx)
        return row_stats(softmax.link(x, options, cx), t, options, cx)


def _nothing(t: Targets, options: Options, cx: Context) -> RowStats:
    """Return the statistics of no class, which change nothing they are merged with."""
    labels: Any = t.labels
    none = cx.xp.zeros(labels.shape, dtype=cx.sum_dtype, device=cx.device)
    lowest = cx.xp.full(labels.shape, -cx.xp.inf, dtype=cx.compute_dtype, device=cx.device)
    uniform = (none, none, none) if options.label_smoothing else (None, None, None)
    return RowStats(lowest, none - 1.0, none, none, none, *uniform)


def maximum(s: RowStats, cx: Context) -> Array:
    """Return what a rank gives to the common maximum: a NaN reaches the others by the sum."""
    return cx.xp.where(s.max == s.max, s.max, -cx.xp.inf)


def addends(s: RowStats, m: Array, t: Targets, cx: Context) -> Array:
    """Return what a rank gives to the one sum, (numbers, *rows), wide; m: the common maximum."""
    xp = cx.xp
    with cx.quiet():
        top = s.max == m
        d = xp.where(top, 0.0, cx.cast(s.max, cx.sum_dtype) - cx.cast(m, cx.sum_dtype))
        # At the maximum the rest as it is: 1 + rest would lose the tail.
        rest = xp.where(top, s.tail_sum, (1.0 + s.tail_sum) * xp.exp(d))

        def shifted(dot: Any, mass: Any) -> Array:
            return xp.where(mass == 0, 0.0, dot - mass * d)

        out = [
            rest,
            cx.cast(top, cx.sum_dtype),
            s.target_weight,
            shifted(s.target_gap, s.target_weight),
        ]
        if t.label_weight is not None:
            out.append(t.label_weight)
        if s.possible is not None:
            weight = s.possible_weight
            out += [s.possible, weight, shifted(s.possible_dot, weight)]
        return xp.stack([cx.cast(xp.asarray(a), cx.sum_dtype) for a in out])


def whole(
    m: Array, sums: Array, t: Targets, options: Options, cx: Context
) -> tuple[RowStats, Targets]:
    """Return the whole rows' statistics, and targets that weigh them."""
    xp = cx.xp
    parts = [sums[i, ...] for i in range(sums.shape[0])]
    rest, tops, here, dot = parts[:4]
    label_weight = parts[4] if t.label_weight is not None else None
    uniform = parts[-3:] if options.label_smoothing else (None, None, None)
    s = RowStats(m, rest + (tops - 1.0), 1.0, 1.0, dot, *uniform)
    # A label that ranks disagree on is found on none of them, or on several.
    bad: Any = here != 1.0
    if t.label_invalid is not None:
        bad = bad | t.label_invalid
    if t.row_present is not None:
        bad = bad & t.row_present
    if cx.on_host and not bool(xp.any(bad)):
        bad = None
    return s, weighed(t._replace(label_invalid=bad), label_weight, cx)


def weighed(t: Targets, label_weight: Array | None, cx: Context) -> Targets:
    """Return targets that weigh the rows; label_weight: summed over the ranks."""
    xp = cx.xp
    weight = t.sample_weight
    if label_weight is not None:
        weight = label_weight if weight is None else weight * label_weight
        if t.label_invalid is not None:
            weight = xp.where(
                t.label_invalid, 1.0 if t.sample_weight is None else t.sample_weight, weight
            )
    if t.row_present is not None:
        kept = cx.cast(t.row_present, cx.sum_dtype)
        weight = kept if weight is None else xp.where(t.row_present, weight, 0.0)
    return t._replace(label_weight=label_weight, row_weight=weight)


def losses(s: RowStats, t: Targets, options: Options, cx: Context) -> Array:
    """Return row losses, wide."""
    with cx.quiet():
        return settle_rows(softmax.losses(s, t, options, cx), t, cx)


def gradient(
    x: Array,
    s: RowStats,
    t: Targets,
    options: Options,
    cx: Context,
    cotangent: Cotangent,
    parts: Any = None,
) -> Array:
    """Return the gradient to the shard of a block of rows, not rounded; s: of the whole rows.

    `parts` makes softmax.Parts of z, where an autodiff is to follow them.
    """
    with cx.quiet():
        z = softmax.link(x, options, cx)
        got = softmax.parts(z, cx, exponentials(z, cx, s)) if parts is None else parts(z)
        eff = settle_up(cotangent, t, cx)
        g = softmax.gradient(x, z, t, options, cx, eff.row_loss, got, s)
        return settle_grad(g, t, options, cx, cotangent)
