"""The definition of every loss in mpmath: value and exact gradient of one row, slow and obvious.

Inputs are plain Python numbers, a float being taken exactly as stored. Outputs are mpf of ``mp``,
this module's own context of 80 digits (no instances of ``mpmath.mpf``); so is arithmetic on them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from mpmath import MPContext, mpf

from .formats import FORMATS

Real: TypeAlias = int | float | mpf
Reals: TypeAlias = Sequence[Real]
G = TypeVar("G", mpf, list[mpf])  # a gradient: one number (binary losses) or one a class

mp: Any = MPContext()
mp.dps = 80
ZERO, ONE, INF, NAN = mp.mpf(0), mp.mpf(1), mp.inf, mp.nan


@dataclass(frozen=True)
class Row(Generic[G]):
    """One row's loss and weight W, and the derivatives of both (None where there is none)."""

    loss: mpf
    weight: mpf
    grad: G  # d loss / d x
    grad_targets: G | None = None  # d loss / d t
    weight_grad_targets: G | None = None  # d W / d t; None where W does not depend on t


@dataclass(frozen=True)
class Batch(Generic[G]):
    """A reduced loss and its derivatives by row; None for absent rows and for index targets."""

    value: mpf
    grads: list[G | None]
    grads_targets: list[G | None]


def _mpfs(values: Reals) -> list[mpf]:
    return [mp.mpf(value) for value in values]


def _times(coefficient: mpf, value: mpf) -> mpf:
    """coefficient · value; a term of coefficient 0 is absent, even where the value is infinite."""
    return ZERO if coefficient == 0 else coefficient * value


def _dot(coefficients: Sequence[mpf], values: Sequence[mpf]) -> mpf:
    return sum(map(_times, coefficients, values), ZERO)


def _over(value: mpf, divisor: mpf) -> mpf:
    return _times(value, 1 / divisor if divisor else INF)


def _clip(value: mpf, eps: Real | None) -> mpf:
    return value if eps is None else min(max(value, mp.mpf(eps)), 1 - mp.mpf(eps))


def _softmax(z: list[mpf]) -> tuple[mpf, list[mpf], list[mpf], list[mpf]]:
    """lse, p, 1 - p and -log p, relative to the first largest z, whose own e is exactly 1."""
    nan, nans = any(map(mp.isnan, z)), [NAN] * len(z)
    top = NAN if nan else max(z, default=-INF)
    if nan or top == -INF:
        return top, nans, nans, nans
    if top == INF:  # the limit: the +inf entries share the whole probability
        return top, *_softmax([ZERO if v == INF else -INF for v in z])[1:]
    first = z.index(top)
    e = [mp.exp(v - top) for v in z]
    others = sum(e[:first] + e[first + 1 :], ZERO)
    log_total = mp.log1p(others)
    p = [v / (1 + others) for v in e]
    rest = [1 - v for v in p]
    rest[first] = others / (1 + others)  # as 1 - p it would be lost where p is nearly 1
    return top + log_total, p, rest, [log_total + (top - v) for v in z]


def logsumexp_row(x: Reals) -> mpf:
    """log Σ_j exp(x_j); -inf where every x_j is."""
    return _softmax(_mpfs(x))[0]


def softmax_row_probs(x: Reals) -> list[mpf]:
    """p_k = exp(x_k) / Σ_j exp(x_j); NaN where every x_j is -inf."""
    return _softmax(_mpfs(x))[1]


def log_softmax_row(x: Reals) -> list[mpf]:
    """log p_k = x_k - log Σ_j exp(x_j); NaN where every x_j is -inf."""
    return [-v for v in _softmax(_mpfs(x))[3]]


def entropy_row(x: Reals) -> Row[list[mpf]]:
    """H = Σ_j p_j nll_j for p = softmax(x), with 0·log 0 = 0; dH/dx_k = p_k (nll_k - H)."""
    _, p, _, nll = _softmax(_mpfs(x))
    lowest = min(nll, default=ZERO)
    above = [v - lowest for v in nll]  # so that the gradient of equal logits is exactly 0
    mean = _dot(p, above)
    return Row(_dot(p, nll), ONE, [_times(pk, v - mean) for pk, v in zip(p, above, strict=True)])


def softmax_row(
    kind: str,
    x: Reals,
    target: int | Reals,
    *,
    weight: Reals | None = None,
    sample_weight: Real = 1,
    label_smoothing: Real = 0,
    z_loss: Real = 0,
    softcap: Real | None = None,
    gamma: Real = 2,
    eps: Real | None = None,
) -> Row[list[mpf]]:
    """One row of a loss over classes; s is the sample weight, t the target (or its one-hot row).

    loss = s Σ_j w_j q_j ℓ_j + λ W lse², W = s Σ_j w_j t_j, q = (1-ε) t + ε (Σ_j t_j) u,
    u uniform over the possible classes; a term with w_j q_j = 0 is absent, and not read. By kind:

    - cross_entropy: ℓ_j = -log p_j, p = softmax(x), or softmax(c tanh(x/c)); possible: x_j > -inf
    - focal_loss: ℓ_j = (1-p_j)^γ (-log p_j), the rest the same; nll_loss: ℓ_j = -x_j, likewise
    - log_loss: ℓ_j = -log x_j, x clipped into [eps, 1-eps] first; possible: x_j ≠ 0 after that

    NaN for a label outside [0, C) (with W = s), where no class is possible but one is needed (for
    a softmax, for smoothing), and where a logit or its t_j is NaN: they meet in the sum. A NaN
    among x_j that are (log-)probabilities is in its own term alone. With s = 0 all is exactly 0.
    """
    foreign = {
        "cross_entropy": [eps],
        "focal_loss": [eps, z_loss],
        "nll_loss": [eps, z_loss, softcap],
        "log_loss": [z_loss, softcap],
    }
    if kind not in foreign or any(foreign[kind]):
        raise ValueError(f"{kind!r} is unknown, or has no such option: {foreign.get(kind)}")
    logits = kind in ("cross_entropy", "focal_loss")
    n, z = range(len(x)), _mpfs(x)
    s, epsilon, lam, g = _mpfs([sample_weight, label_smoothing, z_loss, gamma])
    index = isinstance(target, int)
    bad = index and target not in n
    t = [mp.mpf(k == target) for k in n] if isinstance(target, int) else _mpfs(target)
    w = [ONE for _ in n] if weight is None else _mpfs(weight)
    total = s if bad else _times(s, _dot(t, w))

    # dℓ_j/dx_k = b_j (p_k - [j = k]) dz_k, with p = 0 where ℓ_j depends on x_j alone
    given, losses, lse, p = z, [-v for v in z], ZERO, [ZERO for _ in n]
    rest, b, dz = [ONE for _ in n], [ONE for _ in n], [ONE for _ in n]
    if logits:
        if softcap is not None:
            dz = [1 / mp.cosh(v / softcap) ** 2 for v in given]
            z = [v if v == -INF else softcap * mp.tanh(v / softcap) for v in given]
        lse, p, rest, losses = _softmax(z)
        if kind == "focal_loss":
            inner = [g * _times(p[j], losses[j]) for j in n]
            b = [rest[j] ** g + _times(inner[j], rest[j] and rest[j] ** (g - 1)) for j in n]
            losses = [rest[j] ** g * losses[j] for j in n]
    elif kind == "log_loss":
        z = [_clip(v, eps) for v in given]
        clipped = [z[k] != given[k] and not mp.isnan(z[k]) for k in n]
        # A negative probability has no logarithm, and no slope of one.
        dz = [ZERO if clipped[k] else _over(ONE, z[k]) if z[k] >= 0 else NAN for k in n]
        losses = [-mp.log(v) if v >= 0 else NAN for v in z]
    possible = [v != (0 if kind == "log_loss" else -INF) for v in z]
    empty = not any(possible) and (logits or epsilon != 0)
    w_grad = None if index else [_times(s, v) for v in w]
    if s == 0 or bad or empty or (logits and any(map(mp.isnan, given + t))):
        fill = ZERO if s == 0 else NAN
        return Row(fill, total, [fill for _ in n], w_grad and [fill for _ in n], w_grad)

    share = epsilon / sum(possible) if epsilon else ZERO
    spread = _times(share, sum(t))
    q = [(1 - epsilon) * t[j] + (spread if possible[j] else 0) for j in n]
    a = list(map(_times, q, w))
    by_weight = _times(lam, total)
    loss = s * _dot(a, losses) + _times(by_weight, lse**2)
    ab = list(map(_times, a, b))
    all_ab = sum(ab)
    by_z = [s * (_times(p[k], all_ab - ab[k]) - ab[k] * rest[k]) for k in n]
    by_lse = [_times(2 * by_weight * p[k], lse) for k in n]
    grad = [_times(by_z[k] + by_lse[k], dz[k]) for k in n]
    if index:
        return Row(loss, total, grad)
    # Where the loss is finite so is the gradient: what is infinite in an absent term counts 0.
    own = [ZERO if a[j] == 0 and mp.isinf(losses[j]) else losses[j] for j in n]
    lse2 = ZERO if by_weight == 0 and mp.isinf(lse) else lse**2
    mixed = _times(share, sum(_times(w[j], own[j]) for j in n if possible[j]))
    t_grad = [s * (_times((1 - epsilon) * w[k], own[k]) + mixed) for k in n]
    return Row(loss, total, grad, [t_grad[k] + _times(lam * s * w[k], lse2) for k in n], w_grad)


def binary_row(
    kind: str,
    x: Real,
    t: Real,
    *,
    pos_weight: Real = 1,
    sample_weight: Real = 1,
    label_smoothing: Real = 0,
    gamma: Real = 2,
    alpha: Real | None = None,
    eps: Real | None = None,
) -> Row[mpf]:
    """One element of a binary loss, of weight W = s; T = t (1-ε) + ε/2, gradients to x and t.

    - binary_cross_entropy_with_logits: s·ce, ce = -(ω T log p + (1-T) log(1-p)), p = sigmoid(x)
    - binary_cross_entropy: the same with p = x, clipped into [eps, 1-eps] first, and ω = 1
    - sigmoid_focal_loss: s α_t (1-p_t)^γ ce, p_t = p t + (1-p)(1-t), α_t = α t + (1-α)(1-t) or 1

    A term of coefficient 0 is absent. NaN where x or t is, and for a probability outside [0, 1].
    """
    foreign = {
        "binary_cross_entropy_with_logits": [alpha, eps],
        "binary_cross_entropy": [alpha, pos_weight - 1],
        "sigmoid_focal_loss": [label_smoothing, pos_weight - 1, eps],
    }
    if kind not in foreign or any(foreign[kind]):
        raise ValueError(f"{kind!r} is unknown, or has no such option: {foreign.get(kind)}")
    probs = kind == "binary_cross_entropy"
    x, t, s, omega, epsilon, g = _mpfs([x, t, sample_weight, pos_weight, label_smoothing, gamma])
    p = _clip(x, eps) if probs else x
    if s == 0 or mp.isnan(x) or mp.isnan(t) or (probs and not 0 <= p <= 1):
        fill = ZERO if s == 0 else NAN
        return Row(fill, s, fill, fill)
    t = t * (1 - epsilon) + epsilon / 2
    if probs:
        rest, yes, no = 1 - p, -mp.log(p), -mp.log1p(-p)
        ce_x = _over(1 - t, rest) - _over(t, p) if p == x else ZERO
    else:
        _, (p, rest), _, (yes, no) = _softmax([x, ZERO])
        ce_x = (1 - t) * p - omega * t * rest
    ce = _dot([omega * t, 1 - t], [yes, no])
    # Where the loss is finite so is the gradient: what is infinite in an absent term counts 0.
    yes, no = ZERO if yes == INF and t == 0 else yes, ZERO if no == INF and t == 1 else no
    ce_t = (1 - epsilon) * (_times(omega, yes) - no)
    if kind != "sigmoid_focal_loss":
        return Row(s * ce, s, s * ce_x, s * ce_t)
    a = ONE if alpha is None else alpha * t + (1 - mp.mpf(alpha)) * (1 - t)
    a_t = ZERO if alpha is None else 2 * mp.mpf(alpha) - 1
    miss, miss_x, miss_t = p * (1 - t) + rest * t, p * rest * (1 - 2 * t), rest - p
    f, f_miss = miss**g, g * miss ** (g - 1) if miss else ZERO
    grad = a * (_times(f_miss * miss_x, ce) + f * ce_x)
    ce_factor = _times(a_t * f + a * f_miss * miss_t, ZERO if a == 0 and ce == INF else ce)
    grad_t = ce_factor + _times(a * f, ce_t)
    return Row(s * _times(a * f, ce), s, s * grad, s * grad_t)


def kl_row(
    log_probs: Reals, target: Reals, *, log_target: bool = False, sample_weight: Real = 1
) -> Row[list[mpf]]:
    """s Σ_j t_j (log t_j - lp_j), W = s; with ``log_target``, log t and the gradient to it.

    A term with t_j = 0 is absent, and not read. With s = 0 all is exactly 0.
    """
    lp, given, s = _mpfs(log_probs), _mpfs(target), mp.mpf(sample_weight)
    if s == 0:
        return Row(ZERO, s, [ZERO for _ in lp], [ZERO for _ in lp])
    t = [mp.exp(v) for v in given] if log_target else given
    log_t = given if log_target else [mp.log(v) if v >= 0 else NAN for v in given]
    gap = [a - b for a, b in zip(log_t, lp, strict=True)]
    scale = t if log_target else [mp.sign(v) ** 2 for v in t]  # 0 where t_j is, else 1
    t_grad = [s * _times(c, d + 1) for c, d in zip(scale, gap, strict=True)]
    return Row(s * _dot(t, gap), s, [-s * v if v >= 0 else NAN for v in t], t_grad)


def _each(function: Callable[..., mpf], *gradients: G | None) -> G | None:
    given = [gradient for gradient in gradients if gradient is not None]
    if given and isinstance(given[0], list):
        return list(map(function, *given))
    return function(*given) if given else None


def reduce(
    rows: Sequence[Row[G] | None], *, reduction: str = "mean", normalizer: Real | None = None
) -> Batch[G]:
    """Σ loss_i, or the mean (Σ loss_i) / D, D = Σ W_i or ``normalizer``; None is an absent row.

    A mean to which no row contributes (W_i > 0, or NaN; with a ``normalizer`` that is not 0, every
    present row) is 0 with zero gradients. Where D = Σ W_i
    depends on t: d mean/dt_ik = (d loss_i/dt_ik - mean · dW_i/dt_ik) / D.
    """
    mean = reduction == "mean"
    if not mean and (reduction != "sum" or normalizer is not None):
        raise ValueError(f"no such reduction: {reduction!r} with normalizer={normalizer}")
    present = [row for row in rows if row is not None]
    counted = bool(normalizer) or any(not row.weight <= 0 for row in present)
    divisor = sum(row.weight for row in present) if normalizer is None else mp.mpf(normalizer)

    def scaled(v: mpf) -> mpf:
        return v if not mean else v / divisor if counted else ZERO

    value = scaled(sum((row.loss for row in present), ZERO))
    drift = scaled(value) if mean and normalizer is None else ZERO
    parts = [(r.grad, r.grad_targets, r.weight_grad_targets) if r else (None,) * 3 for r in rows]
    by_t = [_each(lambda v, w=ZERO: scaled(v) - _times(w, drift), t, w) for _, t, w in parts]
    return Batch(value, [_each(scaled, grad) for grad, _, _ in parts], by_t)


def ulp_error(got: float, want: mpf, dtype: str, scale: mpf | None = None) -> mpf:
    """|got - want| in units of the spacing of ``dtype`` at |want|, or at |scale|.

    0 for two NaN, and for an infinity that ``want`` is or rounds to; else inf if not both finite.
    """
    bits, largest = FORMATS[dtype]
    got, want = mp.mpf(got), mp.mpf(want)
    overflow = mp.ldexp(1, largest + 1) - mp.ldexp(1, largest - bits)
    if (mp.isnan(got) and mp.isnan(want)) or (mp.isinf(got) and mp.sign(got) * want >= overflow):
        return ZERO
    if not (mp.isfinite(got) and mp.isfinite(want)):
        return INF
    at = want if scale is None else mp.mpf(scale)
    exponent = max(mp.frexp(at)[1] - 1, 1 - largest) if at else 1 - largest
    return abs(got - want) / mp.ldexp(1, exponent - (bits - 1))
