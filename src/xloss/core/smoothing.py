"""Weighted and smoothed targets of a row, and the gradient to soft targets."""

from __future__ import annotations

from typing import Any, NamedTuple

from .._arrays.context import Context
from .._arrays.inspect import Array
from . import few_classes
from .options import Cotangent, Options
from .row_stats import RowStats, label_mask, uniform_sum
from .targets import Targets


def column(cx: Context, v: Any) -> Any:
    """Turn (*rows) into (*rows, 1) of the arithmetic's dtype; a scalar stays a scalar."""
    if isinstance(v, float) or v.ndim == 0:
        return v if isinstance(v, float) else cx.cast(v, cx.compute_dtype)
    return cx.xp.expand_dims(cx.cast(v, cx.compute_dtype), axis=-1)


class SmoothedTargets(NamedTuple):
    """Weighted, smoothed targets of a row: a_j = w_j q_j."""

    a: Array  # (*rows, classes)
    others: Array  # Σ_{i≠j} a_i, by a form that does not cancel for labels, (*rows, classes)


def smoothed_targets(
    x: Array, t: Targets, options: Options, cx: Context, possible: Array, s: RowStats | None = None
) -> SmoothedTargets:
    """Return a_j = w_j ((1-ε) t_j + ε T u_j), T the sum of the row's targets.

    x is an array of the result's shape and dtype; `possible` marks the possible classes, both
    (*rows, classes). For a class slice, `s` must be the statistics of the whole rows.
    """
    xp = cx.xp
    eps = options.label_smoothing
    w: Any = 1.0 if t.class_weight is None else t.class_weight

    def row_sum(whole: Any, values: Array) -> Array:
        if s is not None:
            return whole if isinstance(whole, float) else column(cx, whole)
        total = xp.sum(values, axis=-1, keepdims=True, dtype=cx.sum_dtype)
        return cx.cast(total, cx.compute_dtype)

    if t.labels is not None:
        is_label = label_mask(t.labels, x.shape[-1], cx)
        if t.label_local is not None:
            is_label = is_label & xp.expand_dims(t.label_local, axis=-1)
        label_weight: Any = 1.0 if t.label_weight is None else column(cx, t.label_weight)
        full = xp.zeros_like(x) + label_weight
        a = xp.where(is_label, full, 0.0)
        others, target_sum = xp.where(is_label, 0.0, full), 1.0
    else:
        assert t.probs is not None
        a = t.probs * w
        others = row_sum(s and s.target_weight, a) - a
        target_sum = row_sum(s and s.target_sum, t.probs) if eps > 0 else 1.0
    if eps == 0:
        return SmoothedTargets(a, others)
    share = xp.where(possible, w + xp.zeros_like(x), 0.0)
    c = eps * target_sum / row_sum(s and s.possible, cx.cast(possible, cx.compute_dtype))
    shares = row_sum(s and s.possible_weight, share)
    return SmoothedTargets((1.0 - eps) * a + c * share, (1.0 - eps) * others + c * (shares - share))


def absent_if_zero(weight: Array | None, value: Array, cx: Context) -> Array:
    """Return weight·value, 0 where the weight is 0 even if the value is infinite; NaN stays."""
    if weight is None:
        return value
    return cx.xp.where((weight == 0) & (value == value), 0.0, weight * value)


def target_gradient(
    class_loss: Array,
    possible: Array,
    lse: Array | None,
    t: Targets,
    options: Options,
    cx: Context,
    cotangent: Cotangent,
    uniform: Array | None = None,
    total: Array | None = None,
) -> Array:
    """Return the gradient to soft targets, (*rows, classes), from the loss of each class.

    `class_loss` and `possible` are (*rows, classes), `lse` (*rows) or None for losses of
    probabilities, the cotangent scalars or (*rows). A class with a = 0 is absent if its loss is
    truly infinite: it adds nothing. A loss that is infinite because it exceeds the largest number
    is not. For a class slice, `uniform` must be the whole row's mean of weight·loss over the
    possible classes, and `total` its sum of targets.
    """
    xp = cx.xp
    eps = options.label_smoothing
    row: Any = cotangent.row_loss
    assert t.probs is not None
    w: Any = 1.0 if t.class_weight is None else t.class_weight
    truly_infinite = ((class_loss == xp.inf) & ~possible) | (class_loss == -xp.inf)
    if lse is not None:  # beside a logit of +inf every finite logit has probability 0
        truly_infinite = truly_infinite | (
            (class_loss == xp.inf) & (xp.expand_dims(lse, axis=-1) == xp.inf)
        )
    each = xp.where(truly_infinite & ((t.probs * w) == 0), 0.0, class_loss) * w
    if lse is None and t.class_weight is not None:
        # The loss of a probability that no rule reads, that of a class of weight 0, may be NaN.
        each = xp.where(t.class_weight == 0, 0.0, each)
    if eps > 0:
        if total is None:
            total = cx.sum_last(t.probs)
        if uniform is None:
            count = cx.sum_last(cx.cast(possible, cx.compute_dtype))
            absent = truly_infinite & xp.expand_dims(total == 0, axis=-1)
            uniform = uniform_sum(xp.where(absent, 0.0, class_loss), possible, t, cx) / count
        uniform = xp.where((xp.abs(uniform) == xp.inf) & (total == 0), 0.0, uniform)
        shared = eps * column(cx, uniform)
        # With ε = 1 a class's own loss has the coefficient 0, which times an infinite loss would
        # be NaN: the term is left out.
        each = (1.0 - eps) * each + shared if eps < 1 else xp.zeros_like(each) + shared
    sample_weight = t.sample_weight
    b = row if sample_weight is None else row * sample_weight
    h = each * column(cx, b)
    per_weight: Any = cotangent.row_weight
    if options.z_loss and lse is not None:
        lse = cx.cast(lse, cx.sum_dtype)
        if t.row_weight is not None:
            # The term λ·W·lse² is linear in the targets through W: its derivative is not 0 where
            # W is, unless the lse is infinite and the term absent.
            lse = xp.where((t.row_weight == 0) & (lse == xp.inf), 0.0, lse)
        z_term = row * options.z_loss * lse * lse
        per_weight = z_term if per_weight is None else per_weight + z_term
    if per_weight is not None:
        per_weight = per_weight if sample_weight is None else per_weight * sample_weight
        share = column(cx, per_weight) * w
        # A class of weight 0 has no share in the row weight, and an infinite z term times its
        # weight would be NaN.
        h = h + (share if t.class_weight is None else xp.where(t.class_weight == 0, 0.0, share))
    return h


def few_target_gradient(
    z: Array,
    class_loss: Array,
    lse: Array,
    t: Targets,
    options: Options,
    cx: Context,
    cotangent: Cotangent,
) -> Array:
    """Return the gradient to the listed targets, (*rows, K); z and class_loss: (*rows, classes).

    Where a rest is spread, a listed target that rises takes as much from the rest.
    """
    xp, few = cx.xp, t.few
    assert few is not None
    row: Any = cotangent.row_loss
    possible = z != -xp.inf
    rest = few_classes.spread(z, few, t.class_weight, cx)
    uniform = total = None
    if options.label_smoothing > 0:
        total = cx.sum_last(few.probs)
        total = total if rest is None else total + rest.placed
        count = cx.sum_last(cx.cast(possible, cx.compute_dtype))
        nothing = ((class_loss == xp.inf) & (lse == xp.inf)[..., None]) & (total == 0)[..., None]
        uniform = uniform_sum(xp.where(nothing, 0.0, class_loss), possible, t, cx) / count
    own_loss, there = (cx.gather_many(a, few.indices) for a in (class_loss, possible))
    h = slot_target_gradient(own_loss, there, lse, t, options, cx, cotangent, uniform, total)
    if rest is not None and few.rest is not None:
        others = uniform_sum(class_loss, rest.mask, t, cx)
        count = cx.sum_last(cx.cast(rest.mask, cx.compute_dtype))
        each = (1.0 - options.label_smoothing) * others / xp.where(count == 0, 1.0, count)
        each = each if uniform is None else each + options.label_smoothing * uniform
        each = xp.where(count == 0, 0.0, each)
        per_row = row if t.sample_weight is None else row * t.sample_weight
        taken = per_row * each
        per_weight: Any = cotangent.row_weight
        if options.z_loss:
            z_term = row * options.z_loss * cx.cast(lse, cx.sum_dtype) ** 2
            per_weight = z_term if per_weight is None else per_weight + z_term
        if per_weight is not None:
            scale = (
                few.other_weight if t.sample_weight is None else few.other_weight * t.sample_weight
            )
            taken = taken + per_weight * scale
        taken = column(cx, xp.where(few.rest > 0, taken, 0.0))
        h = h - (taken if few.filled is None else xp.where(few.filled, taken, 0.0))
    return h


def slot_target_gradient(
    class_loss: Array,
    possible: Array,
    lse: Array,
    t: Targets,
    options: Options,
    cx: Context,
    cotangent: Cotangent,
    uniform: Array | None = None,
    total: Array | None = None,
) -> Array:
    """Return the gradient to listed targets as if nothing were spread, 0 in an empty slot.

    class_loss, possible: (*rows, K) at the slots; uniform, total: as `target_gradient` has them.
    """
    few = t.few
    assert few is not None
    weight = None if few.class_weight is None else cx.cast(few.class_weight, cx.compute_dtype)
    t = t._replace(probs=cx.cast(few.of_class, cx.compute_dtype), class_weight=weight)
    h = target_gradient(class_loss, possible, lse, t, options, cx, cotangent, uniform, total)
    return h if few.filled is None else cx.xp.where(few.filled, h, 0.0)


def lse_if_weighted(lse: Array, t: Targets, cx: Context) -> Array:
    """Return log-sum-exp, and 0 where the row weight is 0: the z term is absent there."""
    if t.row_weight is None:
        return lse
    return cx.xp.where((t.row_weight == 0) & (lse == lse), 0.0, lse)
