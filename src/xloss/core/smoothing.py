"""Weighted, smoothed targets of a row, and the gradient to soft ones."""

from __future__ import annotations

from typing import Any, NamedTuple

from .._arrays.context import Context
from .._arrays.inspect import Array
from .options import Options
from .row_stats import RowStats, hot
from .targets import Targets


def column(cx: Context, v: Any) -> Any:
    """Turn one number a row into a column of the arithmetic's dtype; a scalar stays one."""
    if isinstance(v, float) or v.ndim == 0:
        return v if isinstance(v, float) else cx.cast(v, cx.compute_dtype)
    return cx.xp.expand_dims(cx.cast(v, cx.compute_dtype), axis=-1)


class Mix(NamedTuple):
    """Smoothed, weighted targets of a row: a_j = w_j q_j."""

    a: Array  # (..., classes)
    others: Array  # Σ_{i≠j} a_i, without subtracting what it should not lose


def mix(
    x: Array, t: Targets, options: Options, cx: Context, there: Array, s: RowStats | None = None
) -> Mix:
    """Return a_j = w_j ((1-ε) t_j + ε T u_j); `there` marks the possible classes.

    Of a piece of a row only with the whole row's statistics.
    """
    xp = cx.xp
    eps = options.label_smoothing
    w: Any = 1.0 if t.class_weight is None else t.class_weight

    def row_sum(known: Any, values: Array) -> Array:
        if s is not None:
            return known if isinstance(known, float) else column(cx, known)
        total = xp.sum(values, axis=-1, keepdims=True, dtype=cx.sum_dtype)
        return cx.cast(total, cx.compute_dtype)

    if t.labels is not None:
        one = hot(t.labels, x.shape[-1], cx)
        if t.label_local is not None:
            one = one & xp.expand_dims(t.label_local, axis=-1)
        wy: Any = 1.0 if t.label_weight is None else column(cx, t.label_weight)
        full = xp.zeros_like(x) + wy
        a = xp.where(one, full, 0.0)
        rem, mass = xp.where(one, 0.0, full), 1.0
    else:
        assert t.probs is not None
        a = t.probs * w
        rem = row_sum(s and s.target_weight, a) - a
        mass = row_sum(s and s.target_sum, t.probs) if eps > 0 else 1.0
    if eps == 0:
        return Mix(a, rem)
    share = xp.where(there, w + xp.zeros_like(x), 0.0)
    c = eps * mass / row_sum(s and s.possible, cx.cast(there, cx.compute_dtype))
    shares = row_sum(s and s.possible_weight, share)
    return Mix((1.0 - eps) * a + c * share, (1.0 - eps) * rem + c * (shares - share))


def absent_if_zero(weight: Array | None, value: Array, cx: Context) -> Array:
    """Return weight·value, 0 where the weight is 0 whatever the value; NaN stays."""
    if weight is None:
        return value
    return cx.xp.where((weight == 0) & (value == value), 0.0, weight * value)


def target_gradient(
    value: Array,
    there: Array,
    lse: Array | None,
    t: Targets,
    options: Options,
    cx: Context,
    cotangent: Any,
    up_weight: Any,
    uniform: Array | None = None,
    total: Array | None = None,
) -> Array:
    """Return the gradient to soft targets from each class's loss.

    A class with a = 0 whose loss is infinite, not one beyond the largest number, is absent: it
    adds nothing. Of a piece of a row only with `uniform`, the whole row's mean of weight·loss
    over the possible classes, and `total`, its sum of targets.
    """
    xp = cx.xp
    eps = options.label_smoothing
    assert t.probs is not None
    w: Any = 1.0 if t.class_weight is None else t.class_weight
    endless = ((value == xp.inf) & ~there) | (value == -xp.inf)
    if lse is not None:  # a logit of +inf has the whole probability
        endless = endless | ((value == xp.inf) & (xp.expand_dims(lse, axis=-1) == xp.inf))
    each = xp.where(endless & ((t.probs * w) == 0), 0.0, value) * w
    if lse is None and t.class_weight is not None:  # of probabilities, those not read may be NaN
        each = xp.where(t.class_weight == 0, 0.0, each)
    if eps > 0:
        if total is None:
            total = cx.sum_last(t.probs)
        if uniform is None:
            number = cx.sum_last(cx.cast(there, cx.compute_dtype))
            nothing = endless & xp.expand_dims(total == 0, axis=-1)
            uniform = uniform_sum(xp.where(nothing, 0.0, value), there, t, cx) / number
        uniform = xp.where((xp.abs(uniform) == xp.inf) & (total == 0), 0.0, uniform)
        shared = eps * column(cx, uniform)
        # All smoothed, nothing is left of a class's own loss, infinite though it be.
        each = (1.0 - eps) * each + shared if eps < 1 else xp.zeros_like(each) + shared
    h = each * column(cx, cotangent if t.sample_weight is None else cotangent * t.sample_weight)
    per_weight = up_weight
    if options.z_loss and lse is not None:
        lse = cx.cast(lse, cx.sum_dtype)
        if t.row_weight is not None:
            # The term is linear in the targets: its slope is there in a row of weight 0 as well.
            lse = xp.where((t.row_weight == 0) & (lse == xp.inf), 0.0, lse)
        zw = cotangent * options.z_loss * lse * lse
        per_weight = zw if per_weight is None else per_weight + zw
    if per_weight is not None:
        share = (
            column(cx, per_weight if t.sample_weight is None else per_weight * t.sample_weight) * w
        )
        # A class of weight 0 has no share of the denominator, though the loss be infinite.
        h = h + (share if t.class_weight is None else xp.where(t.class_weight == 0, 0.0, share))
    return h


def uniform_sum(value: Array, there: Array, t: Targets, cx: Context) -> Array:
    """Return Σ w·loss over the possible classes of weight other than 0."""
    w = t.class_weight
    if w is not None:
        there, value = there & (w != 0), w * value
    return cx.sum_last(cx.xp.where(there, value, 0.0))


def weighed_lse(lse: Array, t: Targets, cx: Context) -> Array:
    """Return log-sum-exp, but 0 where the row weighs nothing: its term is absent."""
    return (
        lse if t.row_weight is None else cx.xp.where((t.row_weight == 0) & (lse == lse), 0.0, lse)
    )
