"""Losses that are a sum of elementwise terms: the binary ones, and the divergence."""

from __future__ import annotations

from typing import Any, NamedTuple

from .._arrays.context import Context
from .._arrays.inspect import Array
from .clip import beyond, end_logs
from .options import Operands, Options
from .smoothing import column
from .targets import Targets

DEEP = -60.0  # exp of it is far from underflow, and of half of all that float32 reaches is too


class Sigmoid(NamedTuple):
    """Elementwise parts of a sigmoid, each by a form that cancels nothing."""

    p: Array  # σ(z)
    q: Array  # 1 - σ(z)
    rise: Array  # -log(1 - p) = softplus(z)
    fall: Array  # -log p = softplus(-z)


def sigmoid(z: Array, cx: Context) -> Sigmoid:
    """Return p, 1 - p, -log(1 - p) and -log p."""
    xp = cx.xp
    e = xp.exp(-xp.abs(z))
    large, small = 1.0 / (1.0 + e), e / (1.0 + e)
    cotangent = z >= 0
    tail = xp.log1p(e)
    zero = xp.zeros_like(z)
    bad = z != z
    return Sigmoid(
        xp.where(cotangent, large, small),
        xp.where(cotangent, small, large),
        xp.where(cotangent | bad, z, zero) + tail,
        xp.where(cotangent, zero, -z) + tail,
    )


def product(t: Array, value: Array, cx: Context) -> Array:
    """Return t·value, 0 where t is 0 whatever the value; NaN stays."""
    return cx.xp.where((t == 0) & (value == value), 0.0, t * value)


def smooth(o: Operands, options: Options, cx: Context) -> tuple[Array, Array]:
    """Return the smoothed target t(1-ε) + ε/2 and 1 minus it."""
    t = cx.cast(o.targets, cx.compute_dtype)
    rest = 1.0 - t
    eps = options.label_smoothing
    if eps == 0:
        return t, rest
    return (1.0 - eps) * t + eps / 2, (1.0 - eps) * rest + eps / 2


def logs(p: Array, cx: Context) -> tuple[Array, Array]:
    """Return log p and log(1-p)."""
    xp = cx.xp
    # XLA's float64 log1p errs by up to 128 ulp below -0.3, where the plain logarithm loses none.
    small = p < 0.25
    log_q = xp.where(
        small, xp.log1p(-xp.where(small, p, 0.0)), xp.log(1.0 - xp.where(small, 0.0, p))
    )
    return xp.log(p), log_q


class Terms(NamedTuple):
    """One term's value and its derivatives to x and to the target."""

    value: Array
    dx: Array
    dt: Array


def terms(
    x: Array, o: Operands, t: Targets, options: Options, cx: Context, got: Sigmoid | None
) -> Terms:
    """Return the elementwise terms; differentiable as they stand, where `got` is."""
    if options.kind == "kl_div":
        return divergence(x, o, options, cx)
    y, rest = smooth(o, options, cx)
    if options.kind == "binary_cross_entropy":
        made = binary(x, y, rest, options, cx)
    elif options.kind == "sigmoid_focal_loss":
        assert got is not None
        made = sigmoid_focal(x, y, rest, got, options, cx)
    else:
        assert got is not None
        made = logistic(x, y, rest, t.pos_weight, got, cx)
    scale = 1.0 - options.label_smoothing
    return made if scale == 1 else Terms(made.value, made.dx, made.dt * scale)


def logistic(
    x: Array, y: Array, rest: Array, pos_weight: Array | None, got: Sigmoid, cx: Context
) -> Terms:
    """(1-t)·softplus(z) + w·t·softplus(-z): both terms are non-negative."""
    w: Any = 1.0 if pos_weight is None else pos_weight
    value = product(rest, got.rise, cx) + product(w * y, got.fall, cx)
    dx = rest * got.p - w * y * got.q
    return Terms(value, dx, log_odds(x, y, rest, got, cx, pos_weight))


def log_odds(
    x: Array, y: Array, rest: Array, got: Sigmoid, cx: Context, pos_weight: Array | None = None
) -> Array:
    """w·softplus(-z) - softplus(z), the slope to a target; a term of weight 0 is absent."""
    xp = cx.xp
    w: Any = 1.0 if pos_weight is None else pos_weight
    fall = xp.where((got.fall == xp.inf) & (w * y == 0), 0.0, got.fall)
    rise = xp.where((got.rise == xp.inf) & (rest == 0), 0.0, got.rise)
    if pos_weight is not None:
        return w * fall - rise
    # softplus(-z) - softplus(z) = -z, without the subtraction.
    return xp.where(xp.abs(x) == xp.inf, fall - rise, -x)


def binary(x: Array, y: Array, rest: Array, options: Options, cx: Context) -> Terms:
    """-(t·log p + (1-t)·log(1-p)), and the same formula's gradient where it is infinite."""
    xp = cx.xp
    p = x
    clipped = None
    if options.eps is not None:
        under, above = beyond(x, options.eps)
        clipped = under | above
        p = xp.where(clipped, 0.5, x)
    log_p, log_q = logs(p, cx)
    if options.eps is not None:
        low, high = end_logs(options.eps)
        log_p = xp.where(under, low, xp.where(above, high, log_p))
        log_q = xp.where(under, high, xp.where(above, low, log_q))
    value = -product(y, log_p, cx) - product(rest, log_q, cx)
    # A safe divisor too: the derivative of an unselected infinity is NaN.
    below = xp.where(p == 0, 0.0, p)  # 1/-0.0 would be -inf
    dx = rest / xp.where(rest == 0, 1.0, 1.0 - p) - y / xp.where(y == 0, 1.0, below)
    # The difference of two quotients loses p near a soft y; p - y does not.
    hard = (y == 0) | (rest == 0)
    soft = xp.where(hard, 0.5, below)
    dx = xp.where(hard, dx, (soft - y) / (soft * (1.0 - soft)))
    dx = xp.where(value == value, dx, xp.nan)  # outside [0, 1] the quotients are finite
    if clipped is not None:
        dx = xp.where(clipped, 0.0, dx)
    log_p = xp.where((log_p == -xp.inf) & (y == 0), 0.0, log_p)
    log_q = xp.where((log_q == -xp.inf) & (rest == 0), 0.0, log_q)
    return Terms(value, dx, log_q - log_p)


def sigmoid_focal(
    x: Array, y: Array, rest: Array, got: Sigmoid, options: Options, cx: Context
) -> Terms:
    """α_t (1-p_t)^γ ce, with 1 - p_t = (1-t)·p + t·(1-p): no term is negative."""
    xp = cx.xp
    gamma, alpha = options.gamma, options.alpha
    ce = product(rest, got.rise, cx) + product(y, got.fall, cx)
    miss = rest * got.p + y * got.q
    nowhere = miss == 0
    base = xp.where(nowhere, 1.0, miss)
    power = xp.where(nowhere, 1.0 if gamma == 0 else 0.0, base**gamma)
    endless = ce == xp.inf
    # Of an infinite term a factor that underflows is not 0.
    size = xp.where(endless & ~nowhere & (power == 0), 1.0, power)
    value = product(size, ce, cx)
    # power·γ·ce/base, for base^(γ-1) overflows where base is subnormal; p·(1-p) first, and a
    # factor of 0 selected, for γ·ce/base overflows where a logit is beyond max/γ.
    spread = got.p * got.q
    ratio = xp.where(endless | (spread == 0), 0.0, ce) / base
    bend = xp.where(power == 0, 0.0, power * (gamma * (spread * ratio)))
    dx = power * (rest * got.p - y * got.q) + bend * (rest - y)
    weight: Any = 1.0 if alpha is None else alpha * y + (1.0 - alpha) * rest
    turn = 0.0 if alpha is None else 2.0 * alpha - 1.0
    # To the target: (factor·ce)', each product 0 where its coefficient is.
    ce = xp.where(endless & (weight == 0), 0.0, ce)
    once = xp.where(ce == xp.inf, 1.0, ce)
    dt = size * turn * once
    if gamma > 0:
        # Halved, for once/base may round to beyond the largest logit; half of `once` may underflow.
        bend = xp.where(size == 0, 0.0, weight * size * (once / (2.0 * base)))
        dt = dt + (got.q - got.p) * bend * (2.0 * gamma)
    dt = xp.where(ce == xp.inf, product(dt, ce, cx), dt)
    dt = dt + product(weight * size, log_odds(x, y, rest, got, cx), cx)
    return Terms(product(weight, value, cx), weight * dx, dt)


def divergence(x: Array, o: Operands, options: Options, cx: Context) -> Terms:
    """t·(log t - log q); a class with t = 0 is absent, from the gradients too."""
    xp = cx.xp
    t = cx.cast(o.targets, cx.compute_dtype)
    nowhere = t == (-xp.inf if options.log_target else 0)
    log_t = xp.where(nowhere, 0.0, t) if options.log_target else xp.log(xp.where(nowhere, 1.0, t))
    gap = xp.where(nowhere, 0.0, log_t - xp.where(nowhere, 0.0, x))
    dt = xp.where(nowhere, 0.0, gap + 1.0)
    if not options.log_target:
        # A negative target has no logarithm: NaN in the gradient as in the value.
        return Terms(t * gap, xp.where(t < 0, xp.nan, -t), dt)
    # Where t underflows it is root², each root a factor of its own: its product with a large gap
    # does not underflow, and with an infinite one it is infinite however small t is.
    deep = log_t < DEEP
    root = xp.where(nowhere, 0.0, xp.exp(xp.where(deep, 0.5 * log_t, log_t)))
    again = xp.where(deep, root, 1.0)

    def times(v: Array) -> Array:
        # Infinite where log q is; a gap beyond the largest number times less than any is 0.
        lost = (root == 0) & (xp.abs(v) == xp.inf)
        made = root * xp.where(lost, 0.0, v) * again
        return xp.where(lost & (xp.abs(x) == xp.inf), v, made)

    return Terms(times(gap), -(root * again), times(dt))


def losses(made: Terms, t: Targets, options: Options, cx: Context) -> Array:
    """Return row losses, wide, before absent and bad rows are put right."""
    value = made.value
    row = cx.sum_last(value) if options.kind == "kl_div" else cx.cast(value, cx.sum_dtype)
    return row if t.sample_weight is None else t.sample_weight * row


def gradient(slope: Array, t: Targets, options: Options, cx: Context, cotangent: Any) -> Array:
    """Scale an elementwise derivative by its row's share of the result."""
    b = cotangent if t.sample_weight is None else cotangent * t.sample_weight
    if options.kind == "kl_div":
        return slope * column(cx, b)
    return slope * (b if isinstance(b, float) else cx.cast(b, cx.compute_dtype))
