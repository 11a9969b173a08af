"""What one pass over a row leaves: exact in the tail, mergeable with another piece's."""

from __future__ import annotations

from typing import NamedTuple

from .._arrays.context import Context
from .._arrays.inspect import Array
from .options import Options
from .targets import Targets


class RowStats(NamedTuple):
    """Statistics of a row z with maximum m, one number a row each.

    `mass`, `total` and `dot` describe the target: for labels 1, 1 and m - z_y (all 0 where the
    label is in another piece), for probabilities Σ w t, Σ t and Σ w t (m - z). The last three
    describe the uniform part of smoothed targets, over the possible classes: their number, Σ w
    and Σ w (m - z).
    """

    max: Array  # in the arithmetic's dtype
    tail_sum: Array  # Σ_{z≠m} exp(z - m) + #{z = m} - 1, wide
    target_weight: Array | float | None = None
    target_sum: Array | float | None = None
    target_gap: Array | None = None
    possible: Array | None = None
    possible_weight: Array | None = None
    possible_dot: Array | None = None


class Exponentials(NamedTuple):
    """The elementwise part of the pass: exp(z - m) with 0 where z = m."""

    max: Array  # (..., 1)
    top: Array  # z = m
    below: Array  # exp(z - m), 0 where top
    rest: Array  # (...)


def exponentials(z: Array, cx: Context, known: RowStats | None = None) -> Exponentials:
    """Exponentiate a block of rows about their maxima, which may be known already."""
    xp = cx.xp
    m = cx.max_last(z) if known is None else xp.expand_dims(known.max, axis=-1)
    top = z == m
    # Selected, not multiplied: where m is infinite z - m is NaN; a NaN logit must stay.
    below = cx.fill(xp.exp(z - m), top, 0.0)
    if known is not None:
        return Exponentials(m, top, below, known.tail_sum)
    ties = cx.count_true(top, m) - 1.0
    return Exponentials(m, top, below, cx.sum_last(below) + ties)


def gaps(z: Array, m: Array, top: Array, cx: Context) -> Array:
    """Return m - z, 0 where z = m though both be infinite."""
    return cx.fill(m - z, top, 0.0)


def row_stats(
    z: Array, t: Targets, options: Options, cx: Context, made: Exponentials | None = None
) -> RowStats:
    """Return the statistics of a block of rows (..., classes)."""
    xp = cx.xp
    e = exponentials(z, cx) if made is None else made
    m = xp.squeeze(e.max, axis=-1)
    mass: Array | float | None = None
    total: Array | float | None = None
    dot = possible = possible_weight = possible_dot = None
    smooth = options.label_smoothing > 0
    gap = None
    if t.labels is not None:
        at = cx.gather(z, t.labels)
        dot = xp.where(at == m, 0.0, cx.cast(m, cx.sum_dtype) - cx.cast(at, cx.sum_dtype))
        mass = total = 1.0
        if t.label_local is not None:
            mass = total = cx.cast(t.label_local, cx.sum_dtype)
            dot = xp.where(t.label_local, dot, 0.0)
    elif t.probs is not None:
        a = t.probs if t.class_weight is None else t.probs * t.class_weight
        gap = gaps(z, e.max, e.top, cx)
        mass = total = cx.sum_last(a)
        if t.class_weight is not None and smooth:
            total = cx.sum_last(t.probs)
        dot = cx.sum_last(xp.where(a == 0, 0.0, a * gap))
    if smooth:
        gap = gaps(z, e.max, e.top, cx) if gap is None else gap
        there = z != -xp.inf
        possible = cx.sum_last(cx.cast(there, cx.compute_dtype))
        if t.class_weight is None:
            possible_weight = possible
            share = xp.where(there, gap, 0.0)
        else:
            w = t.class_weight
            possible_weight = cx.sum_last(xp.where(there, w, 0.0))
            share = xp.where(there & (w != 0), w * gap, 0.0)
        possible_dot = cx.sum_last(share)
    return RowStats(m, e.rest, mass, total, dot, possible, possible_weight, possible_dot)


def merge(a: RowStats, b: RowStats, cx: Context) -> RowStats:
    """Merge the statistics of two pieces of the same rows: associative, tail kept."""
    xp = cx.xp
    m = xp.where(a.max >= b.max, a.max, b.max)
    # A NaN maximum compares false: let it win, whichever side it is on.
    m = xp.where(a.max == a.max, m, a.max)

    def shift(s: RowStats) -> Array:
        return xp.where(s.max == m, 0.0, cx.cast(s.max, cx.sum_dtype) - cx.cast(m, cx.sum_dtype))

    da, db = shift(a), shift(b)
    a_top = a.max == m
    one = xp.asarray(1.0, dtype=cx.sum_dtype, device=cx.device)
    first = xp.where(a_top, a.tail_sum, b.tail_sum)
    other = xp.where(a_top, one + b.tail_sum, one + a.tail_sum)
    delta = xp.where(a_top, db, da)
    # An all -inf piece is the identity; two of them stay one row whose maximum is -inf.
    empty = xp.where(a_top, b.max, a.max) == -xp.inf
    rest = first + xp.where(empty, 0.0, other * xp.exp(delta))

    def dots(dot: Array | None, mass: Array | float | None, d: Array) -> Array | None:
        return None if dot is None else xp.where(mass == 0, dot, dot - mass * d)

    def plus(x: Array | float | None, y: Array | float | None) -> Array | None:
        return None if x is None or y is None else x + y

    return RowStats(
        m,
        rest,
        plus(a.target_weight, b.target_weight),
        plus(a.target_sum, b.target_sum),
        plus(dots(a.target_gap, a.target_weight, da), dots(b.target_gap, b.target_weight, db)),
        plus(a.possible, b.possible),
        plus(a.possible_weight, b.possible_weight),
        plus(
            dots(a.possible_dot, a.possible_weight, da), dots(b.possible_dot, b.possible_weight, db)
        ),
    )


def log1p_rest(s: RowStats, cx: Context) -> Array:
    """Return L = lse - m, wide; NaN for a row with no possible class."""
    xp = cx.xp
    return xp.where(s.max == -xp.inf, xp.nan, xp.log1p(s.tail_sum))


def hot(labels: Array, classes: int, cx: Context) -> Array:
    """Return the mask j = y."""
    return cx.arange(classes) == labels[..., None]  # Dask expands no dims of unknown length
