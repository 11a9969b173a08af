"""Rows whose classes are spread over the ranks of a process group, one shard a rank.

Each rank computes the statistics of its shard; one maximum and one sum over the group turn them
into those of the whole rows, from which each rank computes the losses and its own gradient. In
`class_slices` all parts of a row are in one process instead, and are merged in pairs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .._arrays.context import Context
from .._arrays.inspect import Array
from . import softmax
from .family import select_cotangent, select_gradient, select_rows
from .options import Cotangent, Operands, Options
from .row_stats import RowStats, exponentials, row_stats
from .targets import Targets, prepare


class Shard(NamedTuple):
    """The contiguous classes that a rank holds."""

    start: Any  # an int; a 0-d array where a compiler numbers the ranks
    size: int
    classes: int  # of all ranks
    most: int  # the largest size of any rank


def targets(o: Operands, options: Options, cx: Context, shard: Shard) -> Targets:
    """Return the targets as one rank sees them: labels counted from its first class.

    `label_weight` is 0 on ranks that do not hold the label, and `row_weight` is still without it:
    `weighed` adds it once it is summed over the group.
    """
    xp = cx.xp
    t = prepare(o._replace(class_weight=None), options, cx, shard.classes)
    labels: Any = t.labels
    local = (labels >= shard.start) & (labels < shard.start + shard.size)
    local_labels = xp.where(local, labels - shard.start, xp.zeros_like(labels))
    t = t._replace(labels=cx.cast(local_labels, cx.label_dtype), label_local=local)
    if o.class_weight is None:
        return t
    weight = cx.cast(o.class_weight, cx.compute_dtype)
    label_weight = xp.zeros(local.shape, dtype=cx.sum_dtype, device=cx.device)
    if shard.size:
        label_weight = xp.where(local, cx.cast(cx.take(weight, t.labels), cx.sum_dtype), 0.0)
    return t._replace(class_weight=weight, label_weight=label_weight)


def stats(x: Array, t: Targets, options: Options, cx: Context) -> RowStats:
    """Return the statistics of the shard of a block of rows, x of shape (*rows, shard.size)."""
    with cx.quiet():
        if x.shape[-1] == 0:
            return _empty_stats(t, options, cx)
        return row_stats(softmax.softcapped(x, options, cx), t, options, cx)


def _empty_stats(t: Targets, options: Options, cx: Context) -> RowStats:
    """Return the statistics of no class, which change nothing that they are merged with."""
    labels: Any = t.labels
    zero = cx.xp.zeros(labels.shape, dtype=cx.sum_dtype, device=cx.device)
    lowest = cx.xp.full(labels.shape, -cx.xp.inf, dtype=cx.compute_dtype, device=cx.device)
    uniform = (zero, zero, zero) if options.label_smoothing else (None, None, None)
    return RowStats(lowest, zero - 1.0, zero, zero, zero, *uniform)


def maximum(s: RowStats, cx: Context) -> Array:
    """Return what a rank gives to the maximum over the group, (*rows).

    -inf for a NaN: a group's maximum may drop a NaN, while the sum carries it to every rank.
    """
    return cx.xp.where(s.max == s.max, s.max, -cx.xp.inf)


def addends(s: RowStats, m: Array, t: Targets, cx: Context) -> Array:
    """Return what a rank gives to the sum over the group, (numbers, *rows), in the sums' dtype.

    m is the maximum over the group, (*rows).
    """
    xp = cx.xp
    with cx.quiet():
        at_max = s.max == m
        shift = xp.where(at_max, 0.0, cx.cast(s.max, cx.sum_dtype) - cx.cast(m, cx.sum_dtype))
        # The shard at the maximum gives its tail sum as it is: 1 + tail_sum would round it away.
        tail_sum = xp.where(at_max, s.tail_sum, (1.0 + s.tail_sum) * xp.exp(shift))

        def shifted(gap: Any, weight: Any) -> Array:
            return xp.where(weight == 0, 0.0, gap - weight * shift)

        out = [
            tail_sum,
            cx.cast(at_max, cx.sum_dtype),
            s.target_weight,
            shifted(s.target_gap, s.target_weight),
        ]
        if t.label_weight is not None:
            out.append(t.label_weight)
        if s.possible is not None:
            weight = s.possible_weight
            out += [s.possible, weight, shifted(s.possible_gap, weight)]
        return xp.stack([cx.cast(xp.asarray(a), cx.sum_dtype) for a in out])


def whole(
    m: Array, sums: Array, t: Targets, options: Options, cx: Context
) -> tuple[RowStats, Targets]:
    """Return the statistics of the whole rows, and targets that weigh them.

    m is the maximum over the group, `sums` what `addends` come to.
    """
    xp = cx.xp
    parts = [sums[i, ...] for i in range(sums.shape[0])]
    tail_sum, shards_at_max, label_count, target_gap = parts[:4]
    label_weight = parts[4] if t.label_weight is not None else None
    uniform = parts[-3:] if options.label_smoothing else (None, None, None)
    s = RowStats(m, tail_sum + (shards_at_max - 1.0), 1.0, 1.0, target_gap, *uniform)
    # Ranks that were passed different labels find one of them on no rank, or on several.
    invalid: Any = label_count != 1.0
    if t.label_invalid is not None:
        invalid = invalid | t.label_invalid
    if t.row_present is not None:
        invalid = invalid & t.row_present
    if cx.on_host and not bool(xp.any(invalid)):
        invalid = None
    return s, weighed(t._replace(label_invalid=invalid), label_weight, cx)


def weighed(t: Targets, label_weight: Array | None, cx: Context) -> Targets:
    """Return targets that weigh the rows; `label_weight` is summed over the group, (*rows)."""
    xp = cx.xp
    weight = t.sample_weight
    if label_weight is not None:
        weight = label_weight if weight is None else weight * label_weight
        if t.label_invalid is not None:
            of_invalid = 1.0 if t.sample_weight is None else t.sample_weight
            weight = xp.where(t.label_invalid, of_invalid, weight)
    if t.row_present is not None:
        present = cx.cast(t.row_present, cx.sum_dtype)
        weight = present if weight is None else xp.where(t.row_present, weight, 0.0)
    return t._replace(label_weight=label_weight, row_weight=weight)


def losses(s: RowStats, t: Targets, options: Options, cx: Context) -> Array:
    """Return row losses from the statistics of the whole rows, in the sums' dtype."""
    with cx.quiet():
        return select_rows(softmax.losses(s, t, options, cx), t, cx)


def gradient(
    x: Array,
    s: RowStats,
    t: Targets,
    options: Options,
    cx: Context,
    cotangent: Cotangent,
    parts: Any = None,
) -> Array:
    """Return the gradient to the shard of a block of rows in the arithmetic's dtype.

    s are the statistics of the whole rows. `parts` makes the softmax.SoftmaxParts of the capped
    logits, where an autodiff is to follow them.
    """
    with cx.quiet():
        z = softmax.softcapped(x, options, cx)
        found = softmax.parts(z, cx, exponentials(z, cx, s)) if parts is None else parts(z)
        selected = select_cotangent(cotangent, t, cx)
        g = softmax.gradient(x, z, t, options, cx, selected.row_loss, found, s)
        return select_gradient(g, t, options, cx, cotangent)
