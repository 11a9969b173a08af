"""Weighted, smoothed targets of a row, and the gradient to soft ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .._xp import Array, Context, cast
from .rowstats import hot
from .spec import Spec
from .targets import Targets


def column(cx: Context, v: Any) -> Any:
    """Turn one number a row into a column of the arithmetic's dtype; a scalar stays one."""
    if isinstance(v, float) or v.ndim == 0:
        return v if isinstance(v, float) else cast(cx, v, cx.acc)
    return cx.xp.expand_dims(cast(cx, v, cx.acc), axis=-1)


@dataclass(frozen=True, slots=True)
class Mix:
    """Smoothed, weighted targets of a row: a_j = w_j q_j, and their sum."""

    a: Array  # (..., classes)
    others: Array  # Σ_{i≠j} a_i without subtracting what it should not lose
    total: Array  # Σ a_j, (..., 1)


def mix(x: Array, t: Targets, spec: Spec, cx: Context, there: Array) -> Mix:
    """Return a_j = w_j ((1-ε) t_j + ε T u_j); `there` marks the possible classes."""
    xp = cx.xp
    eps = spec.label_smoothing
    w: Any = 1.0 if t.class_weight is None else t.class_weight
    if t.labels is not None:
        one = hot(t.labels, x.shape[-1], cx)
        wy: Any = 1.0
        if t.label_weight is not None:
            wy = xp.expand_dims(cast(cx, t.label_weight, cx.acc), axis=-1)
        full = xp.zeros_like(x) + wy
        a = xp.where(one, full, 0.0)
        rem, mass, total = xp.where(one, 0.0, full), 1.0, full[..., :1]
    else:
        assert t.probs is not None
        a = t.probs * w
        total = xp.expand_dims(cast(cx, xp.sum(a, axis=-1, dtype=cx.wide), cx.acc), axis=-1)
        rem = total - a
        mass = xp.expand_dims(cast(cx, xp.sum(t.probs, axis=-1, dtype=cx.wide), cx.acc), axis=-1)
    if eps == 0:
        return Mix(a, rem, total)
    share = xp.where(there, w + xp.zeros_like(x), 0.0)
    number = xp.sum(cast(cx, there, cx.acc), axis=-1, keepdims=True, dtype=cx.wide)
    all_shares = xp.sum(share, axis=-1, keepdims=True, dtype=cx.wide)
    c = cast(cx, eps * mass / number, cx.acc)
    all_shares = cast(cx, all_shares, cx.acc)
    return Mix(
        (1.0 - eps) * a + c * share,
        (1.0 - eps) * rem + c * (all_shares - share),
        (1.0 - eps) * total + c * all_shares,
    )


def absent_if_zero(weight: Array | None, value: Array, cx: Context) -> Array:
    """Return weight·value, 0 where the weight is 0 whatever the value; NaN stays."""
    if weight is None:
        return value
    return cx.xp.where((weight == 0) & (value == value), 0.0, weight * value)


def target_gradient(
    value: Array, there: Array, lse: Array | None, t: Targets, spec: Spec, cx: Context,
    up: Any, up_weight: Any,
) -> Array:  # fmt: skip
    """Return the gradient to soft targets from each class's loss.

    A class with a = 0 and an infinite loss is absent: it adds nothing.
    """
    xp = cx.xp
    eps = spec.label_smoothing
    assert t.probs is not None
    w: Any = 1.0 if t.class_weight is None else t.class_weight
    each = xp.where((value == xp.inf) & ((t.probs * w) == 0), 0.0, value) * w
    if eps > 0:
        part = xp.where(there & (xp.zeros_like(value) + w != 0), w * value, 0.0)
        number = xp.sum(cast(cx, there, cx.acc), axis=-1, keepdims=True, dtype=cx.wide)
        uniform = xp.sum(part, axis=-1, keepdims=True, dtype=cx.wide) / number
        each = (1.0 - eps) * each + eps * cast(cx, uniform, cx.acc)
    h = each * column(cx, up if t.scale is None else up * t.scale)
    per_weight = up_weight
    if spec.z_loss and lse is not None:
        lse = cast(cx, lse, cx.wide)
        zw = up * spec.z_loss * lse * lse
        per_weight = zw if per_weight is None else per_weight + zw
    if per_weight is not None:
        h = h + column(cx, per_weight if t.scale is None else per_weight * t.scale) * w
    return h
