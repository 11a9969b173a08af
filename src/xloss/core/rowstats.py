"""What one pass over a row leaves: exact in the tail, mergeable with another piece's."""

from __future__ import annotations

from typing import NamedTuple

from .._xp import (
    Array,
    Context,
    apart,
    arange,
    cast,
    count_true,
    fill,
    fuses_sums,
    gather,
    max_last,
    sum_last,
)
from .spec import Spec
from .targets import Targets


class RowStats(NamedTuple):
    """Statistics of a row z with maximum m, one number a row each.

    `mass`, `total` and `dot` describe the target: for labels 1, 1 and m - z_y (all 0 where the
    label is in another piece), for probabilities Σ w t, Σ t and Σ w t (m - z). The last three
    describe the uniform part of smoothed targets, over the possible classes: their number, Σ w
    and Σ w (m - z).
    """

    max: Array  # in the arithmetic's dtype
    rest: Array  # Σ_{z≠m} exp(z - m) + #{z = m} - 1, wide
    mass: Array | float | None = None
    total: Array | float | None = None
    dot: Array | None = None
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
    m = max_last(cx, z) if known is None else xp.expand_dims(known.max, axis=-1)
    top = z == m
    # Selected, not multiplied: where m is infinite z - m is NaN; a NaN logit must stay.
    below = fill(cx, xp.exp(z - m), top, 0.0)
    if known is not None:
        return Exponentials(m, top, below, known.rest)
    if fuses_sums(cx):
        return Exponentials(m, top, below, fused_rest(z, m, cx))
    ties = count_true(cx, top, m) - 1.0
    return Exponentials(m, top, below, sum_last(cx, below) + ties)


def fused_rest(z: Array, m: Array, cx: Context) -> Array:
    """Return the rest by two sums of nothing but arithmetic.

    XLA's compiler for processors writes an array of the logits' size before it adds up what holds a
    comparison or a selection, and where two sums share what they add. What is at the maximum is
    told by the sign of its gap, 0. In a row whose maximum is infinite finite logits are halved, so
    that none is taken for the largest number, which stands for infinity.
    """
    xp = cx.xp
    most = float(xp.finfo(cx.acc).max)
    half, top = xp.where(m == xp.inf, 0.5, 1.0), xp.minimum(m, most)
    gap = top - xp.minimum(z * half, most)
    half, top = apart(cx, half, top)
    number = sum_last(cx, xp.sign(top + xp.maximum(z * -half, -most)))
    rest = sum_last(cx, xp.exp(-gap) * xp.sign(gap)) + (z.shape[-1] - 1 - number)
    # Where all is masked every class is at the maximum, though the gaps be NaN.
    return xp.where(xp.squeeze(m, axis=-1) == -xp.inf, z.shape[-1] - 1.0, rest)


def gaps(z: Array, m: Array, top: Array, cx: Context) -> Array:
    """Return m - z, 0 where z = m though both be infinite."""
    return fill(cx, m - z, top, 0.0)


def row_stats(
    z: Array, t: Targets, spec: Spec, cx: Context, made: Exponentials | None = None
) -> RowStats:
    """Return the statistics of a block of rows (..., classes)."""
    xp = cx.xp
    e = exponentials(z, cx) if made is None else made
    m = xp.squeeze(e.max, axis=-1)
    mass: Array | float | None = None
    total: Array | float | None = None
    dot = possible = possible_weight = possible_dot = None
    smooth = spec.label_smoothing > 0
    gap = None
    if t.labels is not None:
        at = gather(cx, z, t.labels)
        dot = xp.where(at == m, 0.0, cast(cx, m, cx.wide) - cast(cx, at, cx.wide))
        mass = total = 1.0
        if t.here is not None:
            mass = total = cast(cx, t.here, cx.wide)
            dot = xp.where(t.here, dot, 0.0)
    elif t.probs is not None:
        a = t.probs if t.class_weight is None else t.probs * t.class_weight
        gap = gaps(z, e.max, e.top, cx)
        mass = total = sum_last(cx, a)
        if t.class_weight is not None and smooth:
            total = sum_last(cx, t.probs)
        dot = sum_last(cx, xp.where(a == 0, 0.0, a * gap))
    if smooth:
        gap = gaps(z, e.max, e.top, cx) if gap is None else gap
        there = z != -xp.inf
        possible = sum_last(cx, cast(cx, there, cx.acc))
        if t.class_weight is None:
            possible_weight = possible
            share = xp.where(there, gap, 0.0)
        else:
            w = t.class_weight
            possible_weight = sum_last(cx, xp.where(there, w, 0.0))
            share = xp.where(there & (w != 0), w * gap, 0.0)
        possible_dot = sum_last(cx, share)
    return RowStats(m, e.rest, mass, total, dot, possible, possible_weight, possible_dot)


def merge(a: RowStats, b: RowStats, cx: Context) -> RowStats:
    """Merge the statistics of two pieces of the same rows: associative, tail kept."""
    xp = cx.xp
    m = xp.where(a.max >= b.max, a.max, b.max)
    # A NaN maximum compares false: let it win, whichever side it is on.
    m = xp.where(a.max == a.max, m, a.max)

    def shift(s: RowStats) -> Array:
        return xp.where(s.max == m, 0.0, cast(cx, s.max, cx.wide) - cast(cx, m, cx.wide))

    da, db = shift(a), shift(b)
    a_top = a.max == m
    one = xp.asarray(1.0, dtype=cx.wide, device=cx.device)
    first = xp.where(a_top, a.rest, b.rest)
    other = xp.where(a_top, one + b.rest, one + a.rest)
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
        plus(a.mass, b.mass),
        plus(a.total, b.total),
        plus(dots(a.dot, a.mass, da), dots(b.dot, b.mass, db)),
        plus(a.possible, b.possible),
        plus(a.possible_weight, b.possible_weight),
        plus(
            dots(a.possible_dot, a.possible_weight, da), dots(b.possible_dot, b.possible_weight, db)
        ),
    )


def log1p_rest(s: RowStats, cx: Context) -> Array:
    """Return L = lse - m, wide; NaN for a row with no possible class."""
    xp = cx.xp
    return xp.where(s.max == -xp.inf, xp.nan, xp.log1p(s.rest))


def hot(labels: Array, classes: int, cx: Context) -> Array:
    """Return the mask j = y."""
    return arange(cx, classes) == labels[..., None]  # Dask expands no dims of unknown length
