"""Row statistics: what one pass over a row leaves, exact in the tail, and how two are merged."""

from __future__ import annotations

from typing import Any, NamedTuple

from .._arrays.context import Context
from .._arrays.inspect import Array
from . import few_classes
from .fused_rows import compared, maximum_and_tail_sum
from .options import Options
from .targets import Targets


class RowStats(NamedTuple):
    """Statistics of a row z with maximum m, one number a row each.

    The three `target_` fields describe the target. For labels they are 1, 1 and m - z_y (all 0
    where another class slice holds the label), for probabilities Σ w t, Σ t and Σ w t (m - z).
    The three `possible` fields describe the uniform part of smoothed targets, over the possible
    classes: their number, Σ w and Σ w (m - z).
    """

    max: Array  # (*rows), in the dtype of the arithmetic
    tail_sum: Array  # Σ_{z≠m} exp(z - m) + #{z = m} - 1, (*rows), in the dtype of the sums
    target_weight: Array | float | None = None
    target_sum: Array | float | None = None
    target_gap: Array | None = None
    possible: Array | None = None
    possible_weight: Array | None = None
    possible_gap: Array | None = None


class Exponentials(NamedTuple):
    """The elementwise part of the pass."""

    max: Array  # m, (*rows, 1)
    at_max: Array  # z = m, (*rows, classes)
    below_max: Array  # exp(z - m), 0 where z = m, (*rows, classes)
    tail_sum: Array  # (*rows)


def exponentials(z: Array, cx: Context, known: RowStats | None = None) -> Exponentials:
    """Exponentiate a block of rows about their maxima, which may be known already.

    z is (*rows, classes).
    """
    xp = cx.xp
    fused = None
    if known is not None:
        m = xp.expand_dims(known.max, axis=-1)
    elif cx.fuses_sums:
        m, fused = maximum_and_tail_sum(z, cx)
    else:
        m = cx.max_last(z)
    at_max, below_max = compared(z, m, cx)
    if known is not None:
        return Exponentials(m, at_max, below_max, known.tail_sum)
    if fused is not None:
        return Exponentials(m, at_max, below_max, fused)
    ties = cx.count_true(at_max, m) - 1.0
    return Exponentials(m, at_max, below_max, cx.sum_last(below_max) + ties)


def gaps(z: Array, m: Array, at_max: Array, cx: Context) -> Array:
    """Return m - z, and 0 where z = m even if both are infinite."""
    return cx.fill(m - z, at_max, 0.0)


def row_stats(
    z: Array, t: Targets, options: Options, cx: Context, known: Exponentials | None = None
) -> RowStats:
    """Return the statistics of a block of rows (*rows, classes)."""
    xp = cx.xp
    e = exponentials(z, cx) if known is None else known
    m = xp.squeeze(e.max, axis=-1)
    target: Any = (None, None, None)
    uniform: Any = (None, None, None)
    gap = None
    if t.labels is not None:
        at_label = cx.gather(z, t.labels)
        # At the maximum the gap is 0 by selection: where both are infinite, m - z_y is NaN.
        gap_at_label = cx.cast(m, cx.sum_dtype) - cx.cast(at_label, cx.sum_dtype)
        target = label_sums(xp.where(at_label == m, 0.0, gap_at_label), t, cx)
    elif t.probs is not None:
        gap = gaps(z, e.max, e.at_max, cx)
        target = target_sums(gap, t, options, cx)
    elif t.few is not None:
        target = few_classes.target_sums(
            z, m, t.few, t.class_weight, lambda: gaps(z, e.max, e.at_max, cx), cx
        )
    if options.label_smoothing > 0:
        gap = gaps(z, e.max, e.at_max, cx) if gap is None else gap
        uniform = uniform_sums(gap, z != -xp.inf, t, cx)
    return RowStats(m, e.tail_sum, *target, *uniform)


def label_sums(gap: Array, t: Targets, cx: Context) -> tuple[Array | float, Array | float, Array]:
    """Return the three `target_` fields of labels, from the gap or the loss at each label."""
    if t.label_local is None:
        return 1.0, 1.0, gap
    local = cx.cast(t.label_local, cx.sum_dtype)
    return local, local, cx.xp.where(t.label_local, gap, 0.0)


def target_sums(
    class_loss: Array, t: Targets, options: Options, cx: Context
) -> tuple[Array, Array, Array]:
    """Return the three `target_` fields of probabilities: Σ w t, Σ t and Σ w t·loss."""
    assert t.probs is not None
    a = t.probs if t.class_weight is None else t.probs * t.class_weight
    weight = total = cx.sum_last(a)
    if t.class_weight is not None and options.label_smoothing:
        total = cx.sum_last(t.probs)
    return weight, total, cx.sum_last(cx.xp.where(a == 0, 0.0, a * class_loss))


def uniform_sums(
    class_loss: Array, possible: Array, t: Targets, cx: Context
) -> tuple[Array, Array, Array]:
    """Return the three `possible` fields: the number of possible classes, Σ w and Σ w·loss."""
    count = weight = cx.sum_last(cx.cast(possible, cx.compute_dtype))
    if t.class_weight is not None:
        weight = cx.sum_last(cx.xp.where(possible, t.class_weight, 0.0))
    return count, weight, uniform_sum(class_loss, possible, t, cx)


def uniform_sum(class_loss: Array, possible: Array, t: Targets, cx: Context) -> Array:
    """Return Σ w·loss over the possible classes whose weight is not 0, (*rows)."""
    w = t.class_weight
    if w is not None:
        possible, class_loss = possible & (w != 0), w * class_loss
    return cx.sum_last(cx.xp.where(possible, class_loss, 0.0))


def merge(a: RowStats, b: RowStats, cx: Context) -> RowStats:
    """Merge the statistics of two class slices of the same rows.

    The merge is associative, and keeps tail sums far below 1: it never forms 1 + tail_sum of the
    slice that holds the maximum.
    """
    xp = cx.xp
    m = xp.where(a.max >= b.max, a.max, b.max)
    # Every comparison with a NaN is false: b's maximum is taken then, and a's NaN is put back.
    m = xp.where(a.max == a.max, m, a.max)

    def shift(s: RowStats) -> Array:
        return xp.where(s.max == m, 0.0, cx.cast(s.max, cx.sum_dtype) - cx.cast(m, cx.sum_dtype))

    shift_a, shift_b = shift(a), shift(b)
    a_is_max = a.max == m
    one = xp.asarray(1.0, dtype=cx.sum_dtype, device=cx.device)
    at_max = xp.where(a_is_max, a.tail_sum, b.tail_sum)
    other = xp.where(a_is_max, one + b.tail_sum, one + a.tail_sum)
    other_shift = xp.where(a_is_max, shift_b, shift_a)
    # A slice whose logits are all -inf adds nothing, and exp(-inf - -inf) would be NaN.
    other_is_empty = xp.where(a_is_max, b.max, a.max) == -xp.inf
    tail_sum = at_max + xp.where(other_is_empty, 0.0, other * xp.exp(other_shift))

    def shifted(gap: Array | None, weight: Array | float | None, by: Array) -> Array | None:
        return None if gap is None else xp.where(weight == 0, gap, gap - weight * by)

    def plus(x: Array | float | None, y: Array | float | None) -> Array | None:
        return None if x is None or y is None else x + y

    return RowStats(
        m,
        tail_sum,
        plus(a.target_weight, b.target_weight),
        plus(a.target_sum, b.target_sum),
        plus(
            shifted(a.target_gap, a.target_weight, shift_a),
            shifted(b.target_gap, b.target_weight, shift_b),
        ),
        plus(a.possible, b.possible),
        plus(a.possible_weight, b.possible_weight),
        plus(
            shifted(a.possible_gap, a.possible_weight, shift_a),
            shifted(b.possible_gap, b.possible_weight, shift_b),
        ),
    )


def log1p_tail(s: RowStats, cx: Context) -> Array:
    """Return log1p(tail sum) = lse - m in the dtype of the sums; NaN for no possible class."""
    xp = cx.xp
    return xp.where(s.max == -xp.inf, xp.nan, xp.log1p(s.tail_sum))


def label_mask(labels: Array, classes: int, cx: Context) -> Array:
    """Return the mask j = y, (*rows, classes)."""
    # Not expand_dims, which fails on a lazy array whose number of rows is unknown.
    return cx.arange(classes) == labels[..., None]
