"""Losses that are a sum of elementwise terms: the binary ones, and the divergence.

Every array of a binary loss has the shape (*rows) of the logits; the divergence's have
(*rows, classes). `y` is the smoothed target of a binary loss, `not_y` is 1 - y.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .._arrays.context import Context
from .._arrays.inspect import Array
from .options import Operands, Options
from .probabilities import bound_logs, clipped
from .smoothing import column
from .targets import Targets

# Targets with a logarithm below this are computed as the square of their root: exp(-60) is far from
# underflow, and so is the root of every number that float32 has.
SQUARE_ROOT_BELOW = -60.0


class Sigmoid(NamedTuple):
    """The sigmoid and its logarithms, each by a form in which nothing cancels."""

    p: Array  # σ(z)
    q: Array  # 1 - σ(z)
    rise: Array  # -log(1 - p) = softplus(z)
    fall: Array  # -log p = softplus(-z)


def sigmoid(z: Array, cx: Context) -> Sigmoid:
    """Return p, 1 - p, -log(1 - p) and -log p."""
    xp = cx.xp
    e = xp.exp(-xp.abs(z))
    large, small = 1.0 / (1.0 + e), e / (1.0 + e)
    positive = z >= 0
    tail = xp.log1p(e)
    zero = xp.zeros_like(z)
    is_nan = z != z
    return Sigmoid(
        xp.where(positive, large, small),
        xp.where(positive, small, large),
        xp.where(positive | is_nan, z, zero) + tail,
        xp.where(positive, zero, -z) + tail,
    )


def product(t: Array, value: Array, cx: Context) -> Array:
    """Return t·value, 0 where t is 0 even if the value is infinite; NaN stays."""
    return cx.xp.where((t == 0) & (value == value), 0.0, t * value)


def smoothed(o: Operands, options: Options, cx: Context) -> tuple[Array, Array]:
    """Return the smoothed target t(1-ε) + ε/2, and 1 minus it without cancellation."""
    t = cx.cast(o.targets, cx.compute_dtype)
    not_t = 1.0 - t
    eps = options.label_smoothing
    if eps == 0:
        return t, not_t
    return (1.0 - eps) * t + eps / 2, (1.0 - eps) * not_t + eps / 2


def logs(p: Array, cx: Context) -> tuple[Array, Array]:
    """Return log p and log(1-p)."""
    xp = cx.xp
    # XLA's float64 log1p errs by up to 128 ulp below -0.3, where the plain logarithm is exact.
    small = p < 0.25
    log_q = xp.where(
        small, xp.log1p(-xp.where(small, p, 0.0)), xp.log(1.0 - xp.where(small, 0.0, p))
    )
    return xp.log(p), log_q


class ElementTerms(NamedTuple):
    """The terms of a loss, and their derivatives, each of the logits' shape."""

    value: Array
    dx: Array  # to x
    dt: Array  # to the target


def terms(
    x: Array, o: Operands, t: Targets, options: Options, cx: Context, parts: Sigmoid | None
) -> ElementTerms:
    """Return the elementwise terms; an autodiff can follow them where it can follow `parts`.

    `parts` is the sigmoid of x, for the losses that are taken from logits.
    """
    if options.kind == "kl_div":
        return divergence(x, o, options, cx)
    y, not_y = smoothed(o, options, cx)
    if options.kind == "binary_cross_entropy":
        found = binary(x, y, not_y, options, cx)
    elif options.kind == "sigmoid_focal_loss":
        assert parts is not None
        found = sigmoid_focal(x, y, not_y, parts, options, cx)
    else:
        assert parts is not None
        found = logistic(x, y, not_y, t.pos_weight, parts, cx)
    dy_dt = 1.0 - options.label_smoothing
    return found if dy_dt == 1 else ElementTerms(found.value, found.dx, found.dt * dy_dt)


def logistic(
    x: Array, y: Array, not_y: Array, pos_weight: Array | None, parts: Sigmoid, cx: Context
) -> ElementTerms:
    """(1-y)·softplus(z) + w·y·softplus(-z): both terms are non-negative."""
    w: Any = 1.0 if pos_weight is None else pos_weight
    value = product(not_y, parts.rise, cx) + product(w * y, parts.fall, cx)
    dx = not_y * parts.p - w * y * parts.q
    return ElementTerms(value, dx, log_odds(x, y, not_y, parts, cx, pos_weight))


def log_odds(
    x: Array, y: Array, not_y: Array, parts: Sigmoid, cx: Context, pos_weight: Array | None = None
) -> Array:
    """w·softplus(-z) - softplus(z), the derivative to y; a term of weight 0 is absent."""
    xp = cx.xp
    w: Any = 1.0 if pos_weight is None else pos_weight
    fall = xp.where((parts.fall == xp.inf) & (w * y == 0), 0.0, parts.fall)
    rise = xp.where((parts.rise == xp.inf) & (not_y == 0), 0.0, parts.rise)
    if pos_weight is not None:
        return w * fall - rise
    # softplus(-z) - softplus(z) is -z, which loses nothing where the subtraction would cancel.
    return xp.where(xp.abs(x) == xp.inf, fall - rise, -x)


def binary(x: Array, y: Array, not_y: Array, options: Options, cx: Context) -> ElementTerms:
    """-(y·log p + (1-y)·log(1-p)); where it is infinite, the same formula's gradient."""
    xp = cx.xp
    p = x
    was_clipped = None
    if options.eps is not None:
        below, above = clipped(x, options.eps)
        was_clipped = below | above
        p = xp.where(was_clipped, 0.5, x)
    log_p, log_q = logs(p, cx)
    if options.eps is not None:
        low, high = bound_logs(options.eps)
        log_p = xp.where(below, low, xp.where(above, high, log_p))
        log_q = xp.where(below, high, xp.where(above, low, log_q))
    value = -product(y, log_p, cx) - product(not_y, log_q, cx)
    # The divisors are safe even where the quotient is not selected: to autodiff the derivative of
    # an infinity that is not selected is NaN.
    positive_p = xp.where(p == 0, 0.0, p)  # 1/-0.0 would be -inf
    dx = not_y / xp.where(not_y == 0, 1.0, 1.0 - p) - y / xp.where(y == 0, 1.0, positive_p)
    # For a soft y the difference of the two quotients cancels near p = y; p - y does not.
    hard = (y == 0) | (not_y == 0)
    soft_p = xp.where(hard, 0.5, positive_p)
    dx = xp.where(hard, dx, (soft_p - y) / (soft_p * (1.0 - soft_p)))
    # Outside [0, 1] the quotients are finite, and the value is NaN.
    dx = xp.where(value == value, dx, xp.nan)
    if was_clipped is not None:
        dx = xp.where(was_clipped, 0.0, dx)
    log_p = xp.where((log_p == -xp.inf) & (y == 0), 0.0, log_p)
    log_q = xp.where((log_q == -xp.inf) & (not_y == 0), 0.0, log_q)
    return ElementTerms(value, dx, log_q - log_p)


def sigmoid_focal(
    x: Array, y: Array, not_y: Array, parts: Sigmoid, options: Options, cx: Context
) -> ElementTerms:
    """α_t (1-p_t)^γ ce, with 1 - p_t = (1-y)·p + y·(1-p): no term is negative."""
    xp = cx.xp
    gamma, alpha = options.gamma, options.alpha
    ce = product(not_y, parts.rise, cx) + product(y, parts.fall, cx)
    miss = not_y * parts.p + y * parts.q  # 1 - p_t
    miss_is_0 = miss == 0
    base = xp.where(miss_is_0, 1.0, miss)
    power = xp.where(miss_is_0, 1.0 if gamma == 0 else 0.0, base**gamma)
    ce_is_inf = ce == xp.inf
    # Of an infinite term a factor that underflows is not 0: the term is infinite.
    factor = xp.where(ce_is_inf & ~miss_is_0 & (power == 0), 1.0, power)
    value = product(factor, ce, cx)
    # The derivative of miss^γ is power·γ/base, for base^(γ-1) overflows where base is subnormal.
    # p·(1-p) is multiplied in first, and a power of 0 selected, for γ·ce/base overflows where a
    # logit is beyond the largest number over γ.
    pq = parts.p * parts.q
    ratio = xp.where(ce_is_inf | (pq == 0), 0.0, ce) / base
    dpower_ce = xp.where(power == 0, 0.0, power * (gamma * (pq * ratio)))
    dx = power * (not_y * parts.p - y * parts.q) + dpower_ce * (not_y - y)
    weight: Any = 1.0 if alpha is None else alpha * y + (1.0 - alpha) * not_y
    dweight = 0.0 if alpha is None else 2.0 * alpha - 1.0
    # To the target: the derivative of weight·factor·ce, each product 0 where its coefficient is.
    ce = xp.where(ce_is_inf & (weight == 0), 0.0, ce)
    finite_ce = xp.where(ce == xp.inf, 1.0, ce)
    dt = factor * dweight * finite_ce
    if gamma > 0:
        # finite_ce/base may round to beyond the largest logit, so base is doubled; half of
        # finite_ce might underflow instead.
        half = xp.where(factor == 0, 0.0, weight * factor * (finite_ce / (2.0 * base)))
        dt = dt + (parts.q - parts.p) * half * (2.0 * gamma)
    dt = xp.where(ce == xp.inf, product(dt, ce, cx), dt)
    dt = dt + product(weight * factor, log_odds(x, y, not_y, parts, cx), cx)
    return ElementTerms(product(weight, value, cx), weight * dx, dt)


def divergence(x: Array, o: Operands, options: Options, cx: Context) -> ElementTerms:
    """t·(log t - log q); a class with t = 0 is absent, from the gradients too."""
    xp = cx.xp
    t = cx.cast(o.targets, cx.compute_dtype)
    absent = t == (-xp.inf if options.log_target else 0)
    log_t = xp.where(absent, 0.0, t) if options.log_target else xp.log(xp.where(absent, 1.0, t))
    gap = xp.where(absent, 0.0, log_t - xp.where(absent, 0.0, x))
    dt = xp.where(absent, 0.0, gap + 1.0)
    if not options.log_target:
        # A negative target has no logarithm: NaN in the gradient as in the value.
        return ElementTerms(t * gap, xp.where(t < 0, xp.nan, -t), dt)
    # Where t underflows, its square root need not. With the two roots multiplied in one after the
    # other, a large gap times t does not underflow, and an infinite gap times t is infinite.
    tiny = log_t < SQUARE_ROOT_BELOW
    root = xp.where(absent, 0.0, xp.exp(xp.where(tiny, 0.5 * log_t, log_t)))
    second_root = xp.where(tiny, root, 1.0)

    def times_t(v: Array) -> Array:
        # Where even the root is 0, the product is infinite only if log q is; with a gap that is
        # infinite because it exceeds the largest number it is 0.
        lost = (root == 0) & (xp.abs(v) == xp.inf)
        scaled = root * xp.where(lost, 0.0, v) * second_root
        return xp.where(lost & (xp.abs(x) == xp.inf), v, scaled)

    return ElementTerms(times_t(gap), -(root * second_root), times_t(dt))


def losses(found: ElementTerms, t: Targets, options: Options, cx: Context) -> Array:
    """Return row losses in the dtype of the sums; absent and invalid rows still to be selected."""
    value = found.value
    row = cx.sum_last(value) if options.kind == "kl_div" else cx.cast(value, cx.sum_dtype)
    return row if t.sample_weight is None else t.sample_weight * row


def gradient(derivative: Array, t: Targets, options: Options, cx: Context, cotangent: Any) -> Array:
    """Multiply an elementwise derivative by its row's cotangent, a scalar or (*rows)."""
    b = cotangent if t.sample_weight is None else cotangent * t.sample_weight
    if options.kind == "kl_div":
        return derivative * column(cx, b)
    return derivative * (b if isinstance(b, float) else cx.cast(b, cx.compute_dtype))
