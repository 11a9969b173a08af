"""Row losses and gradients of the losses taken from (log-)probabilities along a class axis."""

from __future__ import annotations

from typing import Any

from .._arrays.context import Context
from .._arrays.inspect import Array, dtype_name
from .clip import beyond, end_logs
from .options import Options
from .row_stats import RowStats
from .smoothing import column, mix
from .targets import Targets


def surprise(x: Array, options: Options, cx: Context) -> Array:
    """Return -log p: the negated log-probability, or the log of a (clipped) probability."""
    xp = cx.xp
    if options.kind == "nll_loss":
        return -x
    if options.eps is None:
        return -xp.log(x)
    below, above = beyond(x, options.eps)
    low, high = end_logs(options.eps)
    inside = -xp.log(xp.where(below | above, 1.0, x))
    return xp.where(below, -low, xp.where(above, -high, inside))


def possible(x: Array, options: Options, cx: Context) -> Array:
    """Mark the classes whose probability is not 0; a NaN may be anything else."""
    if options.kind == "nll_loss":
        return x != -cx.xp.inf
    if options.eps is None:
        return x != 0
    return ~(x <= 0) if options.eps == 0 else cx.xp.ones_like(x, dtype=cx.xp.bool)


def slope(a: Array, b: Any, x: Array, options: Options, cx: Context) -> Array:
    """Return a·b·d log p/d x: a·b, or a·b/p; 0 where a is, or where p was clipped."""
    xp = cx.xp
    if options.kind == "nll_loss":
        return xp.where(a == 0, 0.0, a * b)
    absent = a == 0
    if options.eps is not None:
        below, above = beyond(x, options.eps)
        absent = absent | below | above
    x = xp.where(absent, 1.0, xp.where(x == 0, 0.0, x))  # 1/-0.0 would be -inf
    # Neither 1/p, which overflows where p is subnormal and a/p is not, nor a·b unscaled, which
    # underflows where a/p does not.
    lift = 2.0**500 if dtype_name(x.dtype) == "float64" else 2.0**60
    tiny = x < 1.0 / lift
    made = xp.where(tiny, a * lift, a) * b / xp.where(tiny, x * lift, x)
    # A negative probability has no logarithm: NaN in the gradient as in the value.
    return xp.where(absent, 0.0, xp.where(x < 0, xp.nan, made))


def row_stats(x: Array, t: Targets, options: Options, cx: Context) -> RowStats:
    """Return the sums about a maximum of 0 and a rest of 0: log-probabilities are normalised."""
    xp = cx.xp
    w = t.class_weight
    number = weight = uniform = None
    if t.labels is not None:
        dot = surprise(cx.cast(cx.gather(x, t.labels), cx.sum_dtype), options, cx)
        if t.label_weight is not None:  # absent, and not read: as a class of target 0 is
            dot = xp.where(t.label_weight == 0, 0.0, dot)
        mass: Array | float = 1.0
        total: Array | float = 1.0
        if t.label_local is not None:
            mass = total = cx.cast(t.label_local, cx.sum_dtype)
            dot = xp.where(t.label_local, dot, 0.0)
    else:
        assert t.probs is not None
        a = t.probs if w is None else t.probs * w
        mass = total = cx.sum_last(a)
        if w is not None and options.label_smoothing:
            total = cx.sum_last(t.probs)
        dot = cx.sum_last(xp.where(a == 0, 0.0, a * surprise(x, options, cx)))
    if options.label_smoothing:
        there = possible(x, options, cx)
        number = weight = cx.sum_last(cx.cast(there, cx.compute_dtype))
        value = surprise(x, options, cx)
        if w is not None:
            weight = cx.sum_last(xp.where(there, w, 0.0))
            there, value = there & (w != 0), w * value
        uniform = cx.sum_last(xp.where(there, value, 0.0))
    zero = xp.zeros_like(dot)
    return RowStats(
        cx.cast(zero, cx.compute_dtype), zero, mass, total, dot, number, weight, uniform
    )


def gradient(
    x: Array, t: Targets, options: Options, cx: Context, cotangent: Any, s: RowStats | None = None
) -> Array:
    """Return -s a_j d log p_j/d x_j, 0 for an absent term."""
    xp = cx.xp
    b = cotangent if t.sample_weight is None else cotangent * t.sample_weight
    if t.labels is not None and not options.label_smoothing and t.label_local is None:
        at = cx.cast(cx.gather(x, t.labels), cx.sum_dtype)
        mine = xp.ones_like(at) if t.label_weight is None else t.label_weight
        return cx.scatter(xp.zeros_like(x), t.labels, -slope(mine, b, at, options, cx))
    a = mix(x, t, options, cx, possible(x, options, cx), s).a
    return -slope(a, column(cx, b), x, options, cx)
