"""Row losses and gradients of the losses taken from (log-)probabilities along a class axis."""

from __future__ import annotations

from typing import Any

from .._xp import Array, Context, cast, gather, scatter, sum_last
from .mix import absent_if_zero, column, mix
from .rowstats import RowStats
from .spec import Spec
from .targets import Targets


def surprise(x: Array, spec: Spec, cx: Context) -> Array:
    """Return -log p: the negated log-probability, or the log of a (clipped) probability."""
    if spec.kind == "nll_loss":
        return -x
    return -cx.xp.log(clipped(x, spec, cx))


def clipped(x: Array, spec: Spec, cx: Context) -> Array:
    """Clip probabilities into [eps, 1-eps]; a NaN stays."""
    if spec.eps is None:
        return x
    low, high = spec.eps, 1.0 - spec.eps
    return cx.xp.where(x < low, low, cx.xp.where(x > high, high, x))


def possible(x: Array, spec: Spec, cx: Context) -> Array:
    """Mark the classes whose probability is not 0."""
    if spec.kind == "nll_loss":
        return x != -cx.xp.inf
    return clipped(x, spec, cx) != 0


def slope(x: Array, spec: Spec, cx: Context) -> Array:
    """Return d log p/d x: 1, or 1/p, and 0 where p was clipped."""
    xp = cx.xp
    if spec.kind == "nll_loss":
        return xp.ones_like(x)
    if spec.eps is None:
        return 1.0 / x
    inside = (x >= spec.eps) & (x <= 1.0 - spec.eps)
    return xp.where(inside, 1.0 / xp.where(inside, x, 1.0), 0.0)


def row_stats(x: Array, t: Targets, spec: Spec, cx: Context) -> RowStats:
    """Return the sums about a maximum of 0 and a rest of 0: log-probabilities are normalised."""
    xp = cx.xp
    w = t.class_weight
    number = weight = uniform = None
    if t.labels is not None:
        dot = surprise(cast(cx, gather(cx, x, t.labels), cx.wide), spec, cx)
        mass: Array | float = 1.0
        total: Array | float = 1.0
        if t.here is not None:
            mass = total = cast(cx, t.here, cx.wide)
            dot = xp.where(t.here, dot, 0.0)
    else:
        assert t.probs is not None
        a = t.probs if w is None else t.probs * w
        mass = total = sum_last(cx, a)
        if w is not None and spec.label_smoothing:
            total = sum_last(cx, t.probs)
        dot = sum_last(cx, xp.where(a == 0, 0.0, a * surprise(x, spec, cx)))
    if spec.label_smoothing:
        there = possible(x, spec, cx)
        number = weight = sum_last(cx, cast(cx, there, cx.acc))
        value = surprise(x, spec, cx)
        if w is not None:
            weight = sum_last(cx, xp.where(there, w, 0.0))
            there, value = there & (w != 0), w * value
        uniform = sum_last(cx, xp.where(there, value, 0.0))
    zero = xp.zeros_like(dot)
    return RowStats(cast(cx, zero, cx.acc), zero, mass, total, dot, number, weight, uniform)


def gradient(
    x: Array, t: Targets, spec: Spec, cx: Context, up: Any, s: RowStats | None = None
) -> Array:
    """Return -s a_j d log p_j/d x_j, 0 for an absent term."""
    xp = cx.xp
    b = up if t.scale is None else up * t.scale
    if t.labels is not None and not spec.label_smoothing and t.here is None:
        at = slope(cast(cx, gather(cx, x, t.labels), cx.wide), spec, cx)
        return scatter(cx, xp.zeros_like(x), t.labels, -b * absent_if_zero(t.label_weight, at, cx))
    a = mix(x, t, spec, cx, possible(x, spec, cx), s).a
    nowhere = a == 0
    return -a * column(cx, b) * xp.where(nowhere, 0.0, slope(xp.where(nowhere, 1.0, x), spec, cx))
