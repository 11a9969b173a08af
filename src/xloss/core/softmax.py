"""Row losses and gradients of the losses taken from logits along a class axis."""

from __future__ import annotations

from typing import Any, NamedTuple

from .._arrays.context import Context
from .._arrays.inspect import Array
from .options import Options
from .row_stats import (
    Exponentials,
    RowStats,
    exponentials,
    gaps,
    label_mask,
    log1p_tail,
    uniform_sum,
)
from .smoothing import absent_if_zero, column, lse_if_weighted, smoothed_targets
from .targets import Targets

Sums = tuple[Array, ...]


class SoftmaxParts(NamedTuple):
    """The softmax of a row and what goes with it, each by a form in which nothing cancels."""

    lse: Array  # m + log1p(tail sum), (*rows)
    nll: Array  # -log p_j = log1p(tail sum) + (m - z_j), (*rows, classes)
    p: Array  # (*rows, classes)
    q: Array  # 1 - p, (*rows, classes)


def softcapped(x: Array, options: Options, cx: Context) -> Array:
    """Return the capped logits c·tanh(x/c), and -inf for a masked class; x without a softcap."""
    z = cx.cast(x, cx.compute_dtype)
    c = options.softcap
    if c is None:
        return z
    return cx.xp.where(z == -cx.xp.inf, -cx.xp.inf, c * tanh(z / c, cx))


def tanh(u: Array, cx: Context) -> Array:
    """Return tanh(u): where a compiler may trace, by exp, for XLA's tanh errs by up to 4.4 ulp."""
    xp = cx.xp
    if cx.inplace_ok:
        return xp.tanh(u)
    t = xp.exp(-2.0 * xp.abs(u))
    # Below 0.5 this subtraction would cancel, while the error of the library's own tanh is small
    # beside 1.
    far = 1.0 - 2.0 * t / (1.0 + t)
    return xp.where(xp.abs(u) < 0.5, xp.tanh(u), xp.where(u < 0, -far, far))


def softcap_derivative(x: Array, options: Options, cx: Context) -> Array | None:
    """Return dz/dx = sech²(x/c) as 4t/(1+t)², t = exp(-2|x/c|): 1 - tanh² is 0 from 10 on."""
    if options.softcap is None:
        return None
    t = cx.xp.exp(-2.0 * cx.xp.abs(cx.cast(x, cx.compute_dtype) / options.softcap))
    return 4.0 * t / ((1.0 + t) * (1.0 + t))


def parts(z: Array, cx: Context, e: Exponentials | None = None) -> SoftmaxParts:
    """Return log-sum-exp, -log p, p and 1 - p of a block of capped logits (*rows, classes).

    Where z is a class slice, `e` holds the maximum and the tail sum of the whole rows.
    """
    xp = cx.xp
    e = exponentials(z, cx) if e is None else e
    s = RowStats(xp.squeeze(e.max, axis=-1), e.tail_sum)
    log1p_r = log1p_tail(s, cx)
    r = xp.where(s.max == -xp.inf, xp.nan, s.tail_sum)
    inv = 1.0 / (1.0 + r)
    p_max, q_max, tail_sum, log = (column(cx, v) for v in (inv, r * inv, r, log1p_r))
    # Below the maximum 1 - p is (1 + (r - e)) / (1 + r): the maximum's 1 and the other terms.
    q = xp.where(e.at_max, q_max, (1.0 + (tail_sum - e.below_max)) * p_max)
    p = xp.where(e.at_max, p_max, e.below_max * p_max)
    nll = gaps(z, e.max, e.at_max, cx) + log
    lse = cx.cast(cx.cast(s.max, cx.sum_dtype) + log1p_r, cx.compute_dtype)
    return SoftmaxParts(lse, nll, p, q)


def focal(p: Array, q: Array, nll: Array, gamma: float, cx: Context) -> tuple[Array, Array]:
    """Return f = (1-p)^γ nll and s = (1-p)^γ + γ p (1-p)^(γ-1) nll = -df/d log p."""
    xp = cx.xp
    q_is_0 = q == 0
    base = xp.where(q_is_0, 1.0, q)
    power = xp.where(q_is_0, 1.0 if gamma == 0 else 0.0, base**gamma)
    f = xp.where(q_is_0 & (nll == 0), 0.0, power * nll)
    if gamma == 0:
        return f, power
    # (1-p)^(γ-1) as (1-p)^γ / (1-p), for it overflows where 1-p is subnormal.
    ratio = p * (xp.where(p == 0, 0.0, nll) / base)
    return f, power * (1.0 + gamma * ratio)


def label_parts(s: RowStats, cx: Context) -> tuple[Array, Array, Array]:
    """Return nll, p and 1 - p of each row's label, (*rows), in the dtype of the sums."""
    xp = cx.xp
    assert s.target_gap is not None
    inv = 1.0 / (1.0 + s.tail_sum)
    inv = xp.where(s.max == -xp.inf, xp.nan, inv)
    e = xp.exp(-s.target_gap)
    q = xp.where(s.target_gap == 0, s.tail_sum, 1.0 + (s.tail_sum - e)) * inv
    return log1p_tail(s, cx) + s.target_gap, e * inv, q


def z_term(s: RowStats, t: Targets, options: Options, cx: Context) -> tuple[Array, Array]:
    """Return λ·W·lse² and its derivative to lse, 2λ·W·lse."""
    lse = cx.cast(s.max, cx.sum_dtype) + log1p_tail(s, cx)
    if t.row_weight is None:
        return options.z_loss * lse * lse, 2.0 * options.z_loss * lse
    lse = lse_if_weighted(lse, t, cx)
    weighted = options.z_loss * t.row_weight * lse
    return weighted * lse, 2.0 * weighted


def losses(
    s: RowStats, t: Targets, options: Options, cx: Context, sums: Sums | None = None
) -> Array:
    """Return row losses in the dtype of the sums; absent and invalid rows still to be selected.

    `sums` are those of `second_sums`.
    """
    xp = cx.xp
    log1p_r = log1p_tail(s, cx)
    if options.kind == "logsumexp":
        # The logarithm of an empty sum is -inf; only a loss of such a row is undefined.
        return xp.where(s.max == -xp.inf, -xp.inf, cx.cast(s.max, cx.sum_dtype) + log1p_r)
    if options.kind == "entropy":
        assert sums is not None
        return log1p_r + sums[0]
    if sums is not None:  # focal loss of soft or smoothed targets
        row = sums[0]
    elif options.kind == "focal_loss":
        nll, p, q = label_parts(s, cx)
        row = absent_if_zero(t.label_weight, focal(p, q, nll, options.gamma, cx)[0], cx)
    else:
        eps = options.label_smoothing
        row = None
        if eps < 1:
            row = s.target_weight * log1p_r + s.target_gap
            if t.labels is not None:
                row = absent_if_zero(t.label_weight, row, cx)
            row = row if eps == 0 else (1.0 - eps) * row
        if eps > 0:
            assert s.possible is not None
            assert s.possible_weight is not None
            assert s.possible_gap is not None
            uniform = eps / s.possible * (s.possible_weight * log1p_r + s.possible_gap)
            if t.labels is None and options.kind in ("nll_loss", "log_loss"):
                # A NaN probability spoils its own term alone, and a target of sum 0 has none.
                absent = (s.target_sum == 0) & (s.possible != 0)
                uniform = xp.where(absent, 0.0, s.target_sum * uniform)
            elif t.labels is None:
                uniform = absent_if_zero(s.target_sum, uniform, cx)
            row = uniform if row is None else row + uniform
    assert row is not None
    if t.sample_weight is not None:
        row = t.sample_weight * row
    if options.z_loss:
        row = row + z_term(s, t, options, cx)[0]
    return row


def second_sums(
    z: Array, s: RowStats, t: Targets, options: Options, cx: Context, e: Exponentials | None = None
) -> Sums | None:
    """Return the sums that need the whole row's statistics first, (*rows), in the sums' dtype.

    For entropy Σ p (m - z). For the focal loss of soft or smoothed targets Σ a f, Σ a s, and
    Σ w f over the possible classes. None for every other loss.
    """
    xp = cx.xp
    if options.kind == "entropy":
        e = exponentials(z, cx, s) if e is None else e
        return (gap_sum(z, e, cx) / (1.0 + s.tail_sum),)
    if options.kind != "focal_loss" or (options.indexed and not options.label_smoothing):
        return None
    found = parts(z, cx, exponentials(z, cx, s) if e is None else e)
    possible = z != -xp.inf
    a = smoothed_targets(z, t, options, cx, possible, s).a
    f, slope = focal(found.p, found.q, found.nll, options.gamma, cx)
    each = xp.where((a == 0) & (f == f), 0.0, a * f)
    return (
        cx.sum_last(each),
        cx.sum_last(a * slope),
        uniform_sum(f, possible, t, cx) if options.label_smoothing else xp.zeros_like(s.tail_sum),
    )


def gap_sum(z: Array, e: Exponentials, cx: Context) -> Array:
    """Return Σ exp(z - m) (m - z), (*rows), in the sums' dtype: no term is negative."""
    product = cx.xp.where(e.below_max == 0, 0.0, e.below_max * gaps(z, e.max, e.at_max, cx))
    return cx.sum_last(product)


def label_gradient(
    x: Array,
    s: RowStats,
    t: Targets,
    options: Options,
    cx: Context,
    cotangent: Any,
    e: Exponentials,
) -> Array:
    """Return the gradient for unsmoothed labels: a scaled softmax, then the entry of each label.

    x is (*rows, classes), cotangent a scalar or (*rows). Overwrites the exponentials `e`.
    """
    xp = cx.xp
    nll, p, q = label_parts(s, cx)
    b = cotangent if t.sample_weight is None else cotangent * t.sample_weight
    if t.label_weight is not None:
        b = b * t.label_weight
    if options.kind == "focal_loss":
        b = b * focal(p, q, nll, options.gamma, cx)[1]
    coefficient, at_label = b, -b * q
    if options.z_loss:
        z_cotangent = cotangent * z_term(s, t, options, cx)[1]
        coefficient = b + z_cotangent
        at_label = at_label + xp.where(p == 0, 0.0, z_cotangent * p)
    inv = xp.where(s.max == -xp.inf, xp.nan, 1.0 / (1.0 + s.tail_sum))
    exps = cx.fill(e.below_max, e.at_max, 1.0)
    g = exps * column(cx, coefficient * inv)
    if options.z_loss:  # an infinite lse times a probability of exactly 0 is absent, not NaN
        g = cx.fill(g, exps == 0, 0.0)
    g = cx.scatter(g, t.labels, at_label)
    slope = softcap_derivative(x, options, cx)
    return g if slope is None else g * slope


def gradient(
    x: Array,
    z: Array,
    t: Targets,
    options: Options,
    cx: Context,
    cotangent: Any,
    found: SoftmaxParts,
    s: RowStats | None = None,
    sums: Sums | None = None,
    e: Exponentials | None = None,
) -> Array:
    """Return the gradient to x of Σ cotangent·row from the parts of the softmax of z.

    x and z are (*rows, classes), cotangent is a scalar or (*rows). An autodiff can follow the
    operations if it can follow `found`, for p and 1 - p enter linearly. Where z is a class slice,
    `s` and `sums` must be the statistics and second sums of the whole rows. `e`: the exponentials
    of z, where no autodiff follows; entropy is more exact by them.
    """
    xp = cx.xp
    p, q = found.p, found.q
    if options.kind == "logsumexp":
        g = p * column(cx, cotangent)
    elif options.kind == "entropy":
        if e is None:
            nll = xp.where(p == 0, 0.0, found.nll)
            above = nll - column(cx, cx.sum_last(p * nll))
        else:  # the same without log1p(tail sum), which both have, and its rounding errors
            mean = gap_sum(z, e, cx) / (1.0 + e.tail_sum) if sums is None else sums[0]
            gap = xp.where(p == 0, 0.0, gaps(z, e.max, e.at_max, cx))
            above = gap - column(cx, mean)
        g = p * above * column(cx, cotangent)
    elif options.kind == "cross_entropy" and t.labels is not None and not options.label_smoothing:
        is_label = label_mask(t.labels, p.shape[-1], cx)
        if t.label_local is not None:
            is_label = is_label & xp.expand_dims(t.label_local, axis=-1)
        g = xp.where(is_label, -q, p)
        g = g if t.label_weight is None else g * column(cx, t.label_weight)
        g = _with_z_term(g, p, t, options, cx, cotangent, found.lse)
    else:
        smoothed = smoothed_targets(p, t, options, cx, z != -xp.inf, s)
        a, others = smoothed.a, smoothed.others
        if options.kind == "focal_loss":
            slope = focal(p, q, found.nll, options.gamma, cx)[1]
            by_label = options.indexed and not options.label_smoothing
            a = smoothed.a * slope
            if s is not None and by_label:
                nll, p_label, q_label = label_parts(s, cx)
                total = focal(p_label, q_label, nll, options.gamma, cx)[1]
                total = total if t.label_weight is None else total * t.label_weight
            else:
                total = cx.sum_last(a) if sums is None else sums[1]
            others = column(cx, total)
            others = xp.where(smoothed.a != 0, 0.0, others) if by_label else others - a
        g = _with_z_term(p * others - a * q, p, t, options, cx, cotangent, found.lse)
    slope = softcap_derivative(x, options, cx)
    return g if slope is None else g * slope


def _with_z_term(
    g: Array, p: Array, t: Targets, options: Options, cx: Context, cotangent: Any, lse: Array
) -> Array:
    """Return a gradient times cotangent and sample weight, plus that of the z term."""
    xp = cx.xp
    b = cotangent if t.sample_weight is None else cotangent * t.sample_weight
    g = g * column(cx, b)
    if options.z_loss:
        weighted = cotangent if t.row_weight is None else cotangent * t.row_weight
        lse = lse_if_weighted(lse, t, cx)
        z_cotangent = 2.0 * options.z_loss * column(cx, weighted) * column(cx, lse)
        g = g + xp.where(p == 0, 0.0, z_cotangent * p)
    return g


def class_losses(found: SoftmaxParts, options: Options, cx: Context) -> Array:
    """Return the loss that each class would have if it were the target, (*rows, classes)."""
    if options.kind == "focal_loss":
        return focal(found.p, found.q, found.nll, options.gamma, cx)[0]
    return found.nll
