"""Row losses and gradients of the losses taken from (log-)probabilities along a class axis.

With `eps` a probability is clipped into [eps, 1-eps]. Whether it was clipped, and the logarithms of
the two bounds, are computed from eps itself: 1-eps as a float is rounded, for a small eps to 1.
"""

from __future__ import annotations

from math import inf, log, log1p
from typing import Any

from .._arrays.context import Context
from .._arrays.inspect import Array, dtype_name
from .options import Options
from .row_stats import RowStats, label_sums, target_sums, uniform_sums
from .smoothing import column, smoothed_targets
from .targets import Targets


def clipped(x: Array, eps: float) -> tuple[Array, Array]:
    """Mark the probabilities below eps and those above 1-eps; a NaN is neither."""
    return x < eps, 1.0 - x < eps


def bound_logs(eps: float) -> tuple[float, float]:
    """Return the logarithms of eps and of 1-eps."""
    return log(eps) if eps else -inf, log1p(-eps)


def nll(x: Array, options: Options, cx: Context) -> Array:
    """Return -log p from log-probabilities, or from probabilities that are clipped first."""
    xp = cx.xp
    if options.kind == "nll_loss":
        return -x
    if options.eps is None:
        return -xp.log(x)
    below, above = clipped(x, options.eps)
    low, high = bound_logs(options.eps)
    inside = -xp.log(xp.where(below | above, 1.0, x))
    return xp.where(below, -low, xp.where(above, -high, inside))


def possible(x: Array, options: Options, cx: Context) -> Array:
    """Mark the classes whose (clipped) probability is not 0; a NaN counts as possible."""
    if options.kind == "nll_loss":
        return x != -cx.xp.inf
    if options.eps is None:
        return x != 0
    return ~(x <= 0) if options.eps == 0 else cx.xp.ones_like(x, dtype=cx.xp.bool)


def log_p_gradient(a: Array, b: Any, x: Array, options: Options, cx: Context) -> Array:
    """Return a·b·d log p/dx: a·b from log-probabilities, a·b/p from probabilities.

    0 where a is 0, and where p was clipped. a and x have one shape; b broadcasts to it.
    """
    xp = cx.xp
    if options.kind == "nll_loss":
        return xp.where(a == 0, 0.0, a * b)
    absent = a == 0
    if options.eps is not None:
        below, above = clipped(x, options.eps)
        absent = absent | below | above
    x = xp.where(absent, 1.0, xp.where(x == 0, 0.0, x))  # 1/-0.0 would be -inf
    # 1/p overflows where p is subnormal and a/p is not; a·b underflows where a·b/p does not. So a
    # and p are both scaled up first.
    lift = 2.0**500 if dtype_name(x.dtype) == "float64" else 2.0**60
    tiny = x < 1.0 / lift
    quotient = xp.where(tiny, a * lift, a) * b / xp.where(tiny, x * lift, x)
    # A negative probability has no logarithm: the gradient is NaN, as the value is.
    return xp.where(absent, 0.0, xp.where(x < 0, xp.nan, quotient))


def row_stats(x: Array, t: Targets, options: Options, cx: Context) -> RowStats:
    """Return statistics with maximum 0 and tail sum 0, for log-probabilities are normalised.

    The gaps m - z are then the losses -log p of the classes. x is (*rows, classes).
    """
    xp = cx.xp
    uniform: Any = (None, None, None)
    target: Any
    if t.labels is not None:
        at_label = nll(cx.cast(cx.gather(x, t.labels), cx.sum_dtype), options, cx)
        if t.label_weight is not None:  # absent: no rule reads the probability, which may be NaN
            at_label = xp.where(t.label_weight == 0, 0.0, at_label)
        target = label_sums(at_label, t, cx)
    else:
        target = target_sums(nll(x, options, cx), t, options, cx)
    if options.label_smoothing:
        uniform = uniform_sums(nll(x, options, cx), possible(x, options, cx), t, cx)
    zero = xp.zeros_like(target[2])
    return RowStats(cx.cast(zero, cx.compute_dtype), zero, *target, *uniform)


def gradient(
    x: Array, t: Targets, options: Options, cx: Context, cotangent: Any, s: RowStats | None = None
) -> Array:
    """Return -s a_j d log p_j/dx_j, 0 for an absent term.

    x is (*rows, classes), cotangent a scalar or (*rows). Where x is a class slice, `s` must be the
    statistics of the whole rows.
    """
    xp = cx.xp
    b = cotangent if t.sample_weight is None else cotangent * t.sample_weight
    if t.labels is not None and not options.label_smoothing and t.label_local is None:
        at_label = cx.cast(cx.gather(x, t.labels), cx.sum_dtype)
        weight = xp.ones_like(at_label) if t.label_weight is None else t.label_weight
        entry = -log_p_gradient(weight, b, at_label, options, cx)
        return cx.scatter(xp.zeros_like(x), t.labels, entry)
    a = smoothed_targets(x, t, options, cx, possible(x, options, cx), s).a
    return -log_p_gradient(a, column(cx, b), x, options, cx)
