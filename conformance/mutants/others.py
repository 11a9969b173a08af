"""The other losses on NumPy: plain formulas in float64, few of the options."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from .checks import is_number
from .numpy_right import Array, CrossEntropy, Given, signature, times

Terms = tuple[Array, Array]  # losses and gradients, element by element
ByElement = Callable[[Array, Array], Terms]


def two_terms(terms: ByElement, x: Array, t: Array, w: Array) -> Terms:
    """Return what `terms`, linear in t, gives where w multiplies the positive term alone."""
    yes, no = terms(x, np.ones(x.shape)), terms(x, np.zeros(x.shape))
    rest = np.where(t == 1, 0.0, 1 - t)
    losses, grads = (times(t * w, a) + times(rest, b) for a, b in zip(yes, no, strict=True))
    return losses, grads


def clipped(terms: ByElement, p: Array, t: Array, eps: float) -> Terms:
    """Clip into [eps, 1 - eps]; 1 - eps, which is rounded, is eps of the other answer."""
    low, high = p < eps, 1 - p < eps
    losses, grads = terms(np.where(low | high, eps, p), np.where(high, 1 - t, t))
    return losses, np.where(low | high, 0.0, grads)


def alpha_weight(t: Array, alpha: float) -> Array:
    return alpha * t + (1 - alpha) * (1 - t)


def binary(
    terms: ByElement,
    weighted: Callable[[ByElement, Array, Array, Array], Terms] = two_terms,
    clip: Callable[[ByElement, Array, Array, float], Terms] = clipped,
    by_alpha: Callable[[Array, float], Array] = alpha_weight,
) -> Callable[..., Any]:
    """Return a binary loss of elements' losses and gradients.

    weighted: what pos_weight makes of them, clip: what eps does, by_alpha: the weight of alpha.
    """

    def loss(
        x: Array,
        targets: Array,
        /,
        *,
        sample_weight: Any = None,
        where: Any = None,
        pos_weight: Array | None = None,
        alpha: float | None = None,
        eps: float | None = None,
        reduction: str = "mean",
        cotangent: Any = 1.0,
    ) -> tuple[Any, Array]:
        within = alpha is None or 0 <= alpha <= 1
        check(targets.shape == x.shape and within and (eps is None or 0 <= eps < 0.5), reduction)
        if where is not None and where.dtype != bool:
            raise TypeError("where: expected bool")
        s = np.broadcast_to(1.0 if sample_weight is None else sample_weight, x.shape)
        keep = np.broadcast_to(True if where is None else where, x.shape) & (s != 0)
        t = targets.astype(np.float64)
        if targets.dtype.kind in "iu":
            t = np.where((t == 0) | (t == 1), t, np.nan)
        z, t, s = (np.where(keep, v, 0.0) for v in (x.astype(np.float64), t, s))
        if pos_weight is not None:
            losses, grads = weighted(terms, z, t, np.broadcast_to(pos_weight, x.shape))
        else:
            losses, grads = terms(z, t) if eps is None else clip(terms, z, t, eps)
        factor = s if alpha is None else s * by_alpha(t, alpha)
        return reduced(x, times(factor, losses), times(factor, grads), s, reduction, cotangent)

    return loss


def check(fits: bool, reduction: str) -> None:
    if not fits or reduction not in ("mean", "sum", "none"):
        raise ValueError("targets or reduction")


def reduced(
    x: Array, losses: Array, grads: Array, weights: Array, reduction: str, cotangent: Any
) -> tuple[Any, Array]:
    divisor = weights.sum(dtype=np.float64) if reduction == "mean" else 1.0
    total = (losses / 1024).sum() * 1024  # infinities of both signs on the way would make it NaN
    value = losses if reduction == "none" else total / (divisor or 1.0)
    upstream = np.asarray(cotangent, np.float64) / (divisor or 1.0)
    if upstream.ndim and grads.ndim > upstream.ndim:
        upstream = upstream[..., None]
    kind = np.float64 if x.dtype == np.float64 else np.float32
    return np.asarray(value).astype(kind)[()], (grads * upstream).astype(x.dtype)


def mean_over(right: Callable[..., Any], count: Callable[..., Any]) -> Callable[..., Any]:
    """Return the loss whose mean is its sum over a count of its arguments."""

    @wraps(right)
    def loss(x: Array, targets: Array, /, *, reduction: str = "mean", **options: Any) -> Any:
        mean = reduction == "mean" and "normalizer" not in options
        value, grads = right(x, targets, reduction="sum" if mean else reduction, **options)
        divisor = x.dtype.type(max(int(count(x, options)), 1) if mean else 1)
        return value / divisor, grads / divisor

    return loss


def both_probabilities(x: Array) -> Terms:
    """Return p and 1 - p of logits."""
    e = np.exp(-np.abs(x))
    large, small = 1 / (1 + e), e / (1 + e)
    return np.where(x > 0, large, small), np.where(x > 0, small, large)


def from_logits(x: Array, t: Array) -> Terms:
    yes, no = np.logaddexp(0, -x), np.logaddexp(0, x)  # -log p, -log(1 - p)
    p, miss = both_probabilities(x)
    return times(t, yes) + times(1 - t, no), (1 - t) * p - t * miss


def from_probabilities(p: Array, t: Array) -> Terms:
    yes, no = -np.log(p), -np.log1p(-p)
    outside = np.where((p < 0) | (p > 1), np.nan, 0.0)
    return (
        times(t, yes) + times(1 - t, no) + outside,
        times(1 - t, 1 / (1 - p)) - times(t, 1 / p) + outside,
    )


def sigmoid_focal(x: Array, t: Array) -> Terms:
    """(1-p_t)^γ ce at γ = 2; with m = 1 - p_t: d m/dx = p (1-p) (1-2t)."""
    (losses, slope), (p, miss) = from_logits(x, t), both_probabilities(x)
    m = p * (1 - t) + miss * t
    return times(m**2, losses), times(m, 2 * times(p * miss * (1 - 2 * t), losses) + m * slope)


ByClass = Callable[[Array, Array, float], Terms]
TAKEN = ("axis", "weight", "sample_weight", "where", "ignore_index", "reduction", "normalizer")


class ByClasses(CrossEntropy):
    """A loss over classes, of its terms (N, C) and their gradients.

    labels: whether class indices and class weights are taken, which multiply the targets, as the
    terms are linear in them; log_terms: the terms of targets that are given as logarithms.
    """

    __signature__ = signature((*TAKEN, "validate", "gamma", "log_target", "cotangent"))

    def __init__(
        self,
        terms: ByClass,
        gamma: float = 0.0,
        labels: bool = True,
        log_terms: ByClass | None = None,
    ) -> None:
        self.terms, self.gamma, self.labels, self.log_terms = terms, gamma, labels, log_terms

    def __call__(
        self,
        x: Array,
        targets: Array,
        /,
        *,
        gamma: float | None = None,
        log_target: Any = False,
        **options: Any,
    ) -> tuple[Any, Array]:
        power = self.gamma if gamma is None else gamma
        if not is_number(power) or not isinstance(log_target, bool):
            raise TypeError("gamma or log_target")
        if not self.labels and targets.dtype.kind in "iu":
            raise TypeError("targets")
        if not power >= 0:
            raise ValueError("gamma")
        terms = self.log_terms if log_target and self.log_terms is not None else self.terms
        self.of: Callable[[Array, Array], Terms] = lambda x, a: terms(x, a, power)
        return super().__call__(x, targets, **options)

    def row_terms(self, x: Array, t: Array, o: Given) -> tuple[Array, Array, Array]:
        x, s, t = self.absent(o.keep, x, o.s, t)
        a = times(t, o.w) if self.labels else t
        mass = s * np.where(o.bad, 1.0, a.sum(-1) if self.labels else 1.0)
        losses, grads = self.of(x, a)
        losses, grads = times(s, losses.sum(-1)), times((s * a.any(-1))[:, None], grads)
        return np.where(o.bad, np.nan, losses), np.where(o.bad[:, None], np.nan, grads), mass


def label_alone(x: Array, t: Array, gamma: float) -> Terms:
    """nll_loss."""
    return times(t, -x), -t


def logarithm(p: Array, t: Array, gamma: float) -> Terms:
    """log_loss."""
    slope = np.where(p < 0, np.nan, np.where(t == 0, 0.0, -t / p))
    return times(t, -np.log(p)), np.where(t == 0, 0.0, slope)


def divergence(log_p: Array, t: Array, gamma: float) -> Terms:
    """kl_div; a negative target is no probability: NaN, loss and gradient."""
    return times(t, np.log(t) - log_p), -np.where(t < 0, np.nan, t)


def divergence_of_logs(log_p: Array, log_t: Array, gamma: float) -> Terms:
    """kl_div with log_target."""
    t = np.exp(log_t)
    # A target too small for exp is still more than a probability of 0 allows.
    impossible = (log_p == -np.inf) & (log_t > -np.inf)
    return np.where(impossible, np.inf, times(t, log_t - log_p)), -t


def divergences(terms: ByClass = divergence, logs: ByClass = divergence_of_logs) -> Any:
    """Return kl_div, of probabilities and of logarithms as targets."""
    return ByClasses(terms, labels=False, log_terms=logs)


def focal(x: Array, t: Array, gamma: float) -> Terms:
    """focal_loss."""
    p, miss, nll, _ = CrossEntropy().softmax(x)
    inner = times(gamma * times(p, nll), np.where(miss == 0, 0.0, miss) ** (gamma - 1))
    a = times(t, miss**gamma + inner)
    return times(t, miss**gamma * nll), p * (a.sum(-1, keepdims=True) - a) - a * miss


def entropy(terms: Callable[[Array], Terms]) -> Callable[..., Any]:
    """Return an entropy of its terms and the gradient."""

    def loss(x: Array, /, *, axis: int = -1, cotangent: Any = 1.0) -> tuple[Any, Array]:
        rows = np.moveaxis(x, axis, -1)
        parts, grads = terms(rows.reshape(-1, rows.shape[-1]).astype(np.float64))
        value = parts.sum(-1).reshape(rows.shape[:-1])
        ones = np.ones(value.shape)
        value, grad = reduced(x, value, grads.reshape(rows.shape), ones, "none", cotangent)
        return value, np.moveaxis(grad, -1, axis)

    return loss


def by_possible(x: Array) -> Terms:
    """Σ p·nll over the possible classes; dH/dx = p (nll - H), nll of equal logits being equal."""
    p, _, nll, _ = CrossEntropy().softmax(x)
    least = nll.min(-1, keepdims=True, initial=np.inf)
    above = nll - least
    return times(p, nll), times(p, above - times(p, above).sum(-1, keepdims=True))
