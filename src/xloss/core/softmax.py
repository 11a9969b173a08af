"""Row losses and gradients of the losses taken from logits along a class axis."""

from __future__ import annotations

from typing import Any, NamedTuple

from .._arrays.context import Context
from .._arrays.inspect import Array
from .options import Options
from .row_stats import Exponentials, RowStats, exponentials, gaps, log1p_rest
from .smoothing import absent_if_zero, column, mix, uniform_sum, weighed_lse
from .targets import Targets


class Parts(NamedTuple):
    """Elementwise parts of a row's softmax, each by a form that cancels nothing."""

    lse: Array  # m + log1p(r), (...,)
    nll: Array  # -log p_j = log1p(r) + (m - z_j), (..., classes)
    p: Array
    q: Array  # 1 - p


def link(x: Array, options: Options, cx: Context) -> Array:
    """Return the capped logits c·tanh(x/c); a masked logit stays masked."""
    z = cx.cast(x, cx.compute_dtype)
    c = options.softcap
    if c is None:
        return z
    return cx.xp.where(z == -cx.xp.inf, -cx.xp.inf, c * tanh(z / c, cx))


def tanh(u: Array, cx: Context) -> Array:
    """Return tanh(u); where a compiler takes it, through exp: XLA's own errs by up to 4.4 ulp."""
    xp = cx.xp
    if cx.inplace_ok:
        return xp.tanh(u)
    t = xp.exp(-2.0 * xp.abs(u))
    # Nearer 0 the subtraction would cancel, and the error of the library's is small beside 1.
    far = 1.0 - 2.0 * t / (1.0 + t)
    return xp.where(xp.abs(u) < 0.5, xp.tanh(u), xp.where(u < 0, -far, far))


def link_slope(x: Array, options: Options, cx: Context) -> Array | None:
    """Return dz/dx = sech²(x/c) as 4t/(1+t)², t = exp(-2|x/c|): 1 - tanh² is 0 from 10 on."""
    if options.softcap is None:
        return None
    t = cx.xp.exp(-2.0 * cx.xp.abs(cx.cast(x, cx.compute_dtype) / options.softcap))
    return 4.0 * t / ((1.0 + t) * (1.0 + t))


def parts(z: Array, cx: Context, e: Exponentials | None = None) -> Parts:
    """Return p, 1 - p, -log p and log-sum-exp of a block of capped logits.

    `e` may hold the maximum and the rest of rows of which z is one piece.
    """
    xp = cx.xp
    e = exponentials(z, cx) if e is None else e
    s = RowStats(xp.squeeze(e.max, axis=-1), e.rest)
    rise = log1p_rest(s, cx)
    rest = xp.where(s.max == -xp.inf, xp.nan, s.tail_sum)
    inv = 1.0 / (1.0 + rest)
    one, tail, others, log = (column(cx, v) for v in (inv, rest * inv, rest, rise))
    # 1 + (r - e): the sum of the other terms, where the row's maximum is among them.
    q = xp.where(e.top, tail, (1.0 + (others - e.below)) * one)
    p = xp.where(e.top, one, e.below * one)
    nll = gaps(z, e.max, e.top, cx) + log
    lse = cx.cast(cx.cast(s.max, cx.sum_dtype) + rise, cx.compute_dtype)
    return Parts(lse, nll, p, q)


def focal(p: Array, q: Array, nll: Array, gamma: float, cx: Context) -> tuple[Array, Array]:
    """Return f = (1-p)^γ nll and s = (1-p)^γ + γ p (1-p)^(γ-1) nll = -df/d log p."""
    xp = cx.xp
    nowhere = q == 0
    base = xp.where(nowhere, 1.0, q)
    power = xp.where(nowhere, 1.0 if gamma == 0 else 0.0, base**gamma)
    f = xp.where(nowhere & (nll == 0), 0.0, power * nll)
    if gamma == 0:
        return f, power
    # γ p (1-p)^(γ-1) nll, for the power of γ-1 overflows where 1-p is subnormal.
    slope = p * (xp.where(p == 0, 0.0, nll) / base)
    return f, power * (1.0 + gamma * slope)


def label_parts(s: RowStats, cx: Context) -> tuple[Array, Array, Array]:
    """Return nll, p and 1 - p of each row's label, wide, from the statistics of the row."""
    xp = cx.xp
    assert s.target_gap is not None
    inv = 1.0 / (1.0 + s.tail_sum)
    inv = xp.where(s.max == -xp.inf, xp.nan, inv)
    e = xp.exp(-s.target_gap)
    q = xp.where(s.target_gap == 0, s.tail_sum, 1.0 + (s.tail_sum - e)) * inv
    return log1p_rest(s, cx) + s.target_gap, e * inv, q


def z_term(s: RowStats, t: Targets, options: Options, cx: Context) -> tuple[Array, Array]:
    """Return λ·W·lse² and 2λ·W·lse."""
    lse = cx.cast(s.max, cx.sum_dtype) + log1p_rest(s, cx)
    if t.row_weight is None:
        return options.z_loss * lse * lse, 2.0 * options.z_loss * lse
    lse = weighed_lse(lse, t, cx)
    weighted = options.z_loss * t.row_weight * lse
    return weighted * lse, 2.0 * weighted


def losses(
    s: RowStats, t: Targets, options: Options, cx: Context, sums: tuple[Array, ...] | None = None
) -> Array:
    """Return row losses, wide, before absent and bad rows are put right."""
    xp = cx.xp
    rise = log1p_rest(s, cx)
    if options.kind == "logsumexp":
        # Every class impossible is a sum of zero, not an undefined one.
        return xp.where(s.max == -xp.inf, -xp.inf, cx.cast(s.max, cx.sum_dtype) + rise)
    if options.kind == "entropy":
        assert sums is not None
        return rise + sums[0]
    if sums is not None:  # focal, from the whole mixture
        row = sums[0]
    elif options.kind == "focal_loss":
        nll, p, q = label_parts(s, cx)
        row = absent_if_zero(t.label_weight, focal(p, q, nll, options.gamma, cx)[0], cx)
    else:
        eps = options.label_smoothing
        row = None
        if eps < 1:
            row = s.target_weight * rise + s.target_gap
            if t.labels is not None:
                row = absent_if_zero(t.label_weight, row, cx)
            row = row if eps == 0 else (1.0 - eps) * row
        if eps > 0:
            assert s.possible is not None
            assert s.possible_weight is not None
            assert s.possible_dot is not None
            uniform = eps / s.possible * (s.possible_weight * rise + s.possible_dot)
            if t.labels is None and options.kind in ("nll_loss", "log_loss"):
                # A NaN among probabilities is in its own term, which is absent here.
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


Sums = tuple[Array, ...]


def second_sums(
    z: Array, s: RowStats, t: Targets, options: Options, cx: Context, e: Exponentials | None = None
) -> Sums | None:
    """Return the sums that need the whole row's statistics first, each (...,) and wide.

    entropy: Σ p (m - z). Focal loss over a mixture: Σ a f, Σ a s, and Σ w f over the possible
    classes. None for the others.
    """
    xp = cx.xp
    if options.kind == "entropy":
        e = exponentials(z, cx, s) if e is None else e
        product = xp.where(e.below == 0, 0.0, e.below * gaps(z, e.max, e.top, cx))
        return (cx.sum_last(product) / (1.0 + s.tail_sum),)
    if options.kind != "focal_loss" or (options.indexed and not options.label_smoothing):
        return None
    got = parts(z, cx, exponentials(z, cx, s) if e is None else e)
    there = z != -xp.inf
    a = mix(z, t, options, cx, there, s).a
    f, slope = focal(got.p, got.q, got.nll, options.gamma, cx)
    each = xp.where((a == 0) & (f == f), 0.0, a * f)
    return (
        cx.sum_last(each),
        cx.sum_last(a * slope),
        uniform_sum(f, there, t, cx) if options.label_smoothing else xp.zeros_like(s.tail_sum),
    )


def label_gradient(
    x: Array,
    s: RowStats,
    t: Targets,
    options: Options,
    cx: Context,
    cotangent: Any,
    e: Exponentials,
) -> Array:
    """Return the gradient for unsmoothed labels: a scaled softmax, and one entry a row."""
    xp = cx.xp
    nll, p, q = label_parts(s, cx)
    b = cotangent if t.sample_weight is None else cotangent * t.sample_weight
    if t.label_weight is not None:
        b = b * t.label_weight
    if options.kind == "focal_loss":
        b = b * focal(p, q, nll, options.gamma, cx)[1]
    coefficient, at_label = b, -b * q
    if options.z_loss:
        zc = cotangent * z_term(s, t, options, cx)[1]
        coefficient, at_label = b + zc, at_label + xp.where(p == 0, 0.0, zc * p)
    inv = xp.where(s.max == -xp.inf, xp.nan, 1.0 / (1.0 + s.tail_sum))
    every = cx.fill(e.below, e.top, 1.0)
    g = every * column(cx, coefficient * inv)
    if options.z_loss:  # lse = inf times a probability of exactly 0
        g = cx.fill(g, every == 0, 0.0)
    g = cx.scatter(g, t.labels, at_label)
    slope = link_slope(x, options, cx)
    return g if slope is None else g * slope


def gradient(
    x: Array,
    z: Array,
    t: Targets,
    options: Options,
    cx: Context,
    cotangent: Any,
    got: Parts,
    s: RowStats | None = None,
    sums: Sums | None = None,
) -> Array:
    """Return the gradient to x of Σ up·row from the parts of the softmax of z.

    Differentiable as it stands, where `got` is: p and 1 - p enter linearly. Of a piece of a row
    only with the statistics and the second sums of the whole row.
    """
    xp = cx.xp
    p, q = got.p, got.q
    if options.kind == "logsumexp":
        g = p * column(cx, cotangent)
    elif options.kind == "entropy":
        nll = xp.where(p == 0, 0.0, got.nll)
        h = cx.sum_last(p * nll) if s is None or sums is None else log1p_rest(s, cx) + sums[0]
        g = p * (nll - column(cx, h)) * column(cx, cotangent)
    else:
        a = mix(p, t, options, cx, z != -xp.inf, s)
        mine, others = a.a, a.others
        if options.kind == "focal_loss":
            slope = focal(p, q, got.nll, options.gamma, cx)[1]
            mine = a.a * slope
            by_label = options.indexed and not options.label_smoothing
            if s is not None and by_label:
                nll, p_label, q_label = label_parts(s, cx)
                total = focal(p_label, q_label, nll, options.gamma, cx)[1]
                total = total if t.label_weight is None else total * t.label_weight
            else:
                total = cx.sum_last(mine) if sums is None else sums[1]
            others = column(cx, total)
            others = xp.where(a.a != 0, 0.0, others) if by_label else others - mine
        b = cotangent if t.sample_weight is None else cotangent * t.sample_weight
        g = (p * others - mine * q) * column(cx, b)
        if options.z_loss:
            weighted = cotangent if t.row_weight is None else cotangent * t.row_weight
            zc = (
                2.0
                * options.z_loss
                * column(cx, weighted)
                * column(cx, weighed_lse(got.lse, t, cx))
            )
            g = g + xp.where(p == 0, 0.0, zc * p)
    slope = link_slope(x, options, cx)
    return g if slope is None else g * slope


def class_losses(got: Parts, options: Options, cx: Context) -> Array:
    """Return the loss of each class of a row, were it the target."""
    if options.kind == "focal_loss":
        return focal(got.p, got.q, got.nll, options.gamma, cx)[0]
    return got.nll
