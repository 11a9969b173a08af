"""The other losses on NumPy, right and wrong: plain formulas in float64, few of the options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .numpy_right import Array, CrossEntropy, times

Terms = tuple[Array, Array]  # losses and gradients, element by element


def binary(terms: Callable[[Array, Array], Terms]) -> Callable[..., Any]:
    """Return a binary loss of elements' losses and gradients."""

    def loss(
        x: Array, targets: Array, /, *, sample_weight: Any = None, reduction: str = "mean",
        cotangent: Any = 1.0,
    ) -> tuple[Any, Array]:  # fmt: skip
        check(targets.shape == x.shape, reduction)
        s = np.broadcast_to(1.0 if sample_weight is None else sample_weight, x.shape)
        t = targets.astype(np.float64)
        if targets.dtype.kind in "iu":
            t = np.where((t == 0) | (t == 1), t, np.nan)
        losses, grads = terms(x.astype(np.float64), t)
        return reduced(x, times(s, losses), times(s, grads), s, reduction, cotangent)

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


def from_logits(x: Array, t: Array) -> Terms:
    yes, no = np.logaddexp(0, -x), np.logaddexp(0, x)  # -log p, -log(1 - p)
    e = np.exp(-np.abs(x))
    large, small = 1 / (1 + e), e / (1 + e)
    p, miss = np.where(x > 0, large, small), np.where(x > 0, small, large)
    return times(t, yes) + times(1 - t, no), (1 - t) * p - t * miss


def log_of_sigmoid(x: Array, t: Array) -> Terms:
    """log(sigmoid(x)) in float32."""
    p = 1 / (1 + np.exp(-x.astype(np.float32)))
    return times(t, -np.log(p)) + times(1 - t, -np.log(1 - p)), from_logits(x, t)[1]


def p_minus_t(x: Array, t: Array) -> Terms:
    """p - t in float32."""
    p = 1 / (1 + np.exp(-x.astype(np.float32)))
    return from_logits(x, t)[0], (p - t.astype(np.float32)).astype(np.float64)


def from_probabilities(p: Array, t: Array) -> Terms:
    yes, no = -np.log(p), -np.log1p(-p)
    outside = np.where((p < 0) | (p > 1), np.nan, 0.0)
    return (
        times(t, yes) + times(1 - t, no) + outside,
        times(1 - t, 1 / (1 - p)) - times(t, 1 / p) + outside,
    )


def clamped_at_100(p: Array, t: Array) -> Terms:
    """PyTorch's: a logarithm below -100 is -100."""
    losses, grads = from_probabilities(p, t)
    yes, no = np.minimum(-np.log(p), 100), np.minimum(-np.log1p(-p), 100)
    return np.where(np.isnan(losses), losses, times(t, yes) + times(1 - t, no)), grads


def sigmoid_focal(x: Array, t: Array) -> Terms:
    """(1-p_t)^γ ce at γ = 2; with m = 1 - p_t: d m/dx = p (1-p) (1-2t)."""
    losses, slope = from_logits(x, t)
    p, miss = from_logits(x, np.zeros(()))[1], -from_logits(x, np.ones(()))[1]
    m = p * (1 - t) + miss * t
    return times(m**2, losses), times(m, 2 * times(p * miss * (1 - 2 * t), losses) + m * slope)


def sigmoid_focal_of_p(x: Array, t: Array) -> Terms:
    """1 - p in float32."""
    p = (1 / (1 + np.exp(-x))).astype(np.float32).astype(np.float64)
    m = p * (1 - t) + (1 - p) * t
    return times(m**2, from_logits(x, t)[0]), sigmoid_focal(x, t)[1]


ByClass = Callable[[Array, Array, float], Terms]


def classes(terms: ByClass, *, gamma: float = 0.0, labels: bool = True) -> Callable[..., Any]:
    """Return a loss over classes, of its terms (N, C) and their gradients."""

    def loss(
        x: Array, targets: Array, /, *, reduction: str = "mean", gamma: float = gamma,
        cotangent: Any = 1.0,
    ) -> tuple[Any, Array]:  # fmt: skip
        index = labels and targets.dtype.kind in "iu"
        if not (index or targets.dtype.kind == "f" or targets.dtype.name == "bfloat16") or (
            not isinstance(gamma, int | float)
        ):
            raise TypeError("targets or gamma")
        check(targets.shape == (x.shape[:-1] if index else x.shape) and gamma >= 0, reduction)
        t = targets.astype(np.float64)
        if index:
            inside = (targets >= 0) & (targets < x.shape[-1])
            if (targets == -100).any():
                raise NotImplementedError("ignored labels")
            if not inside.all():
                raise IndexError("targets: a label is no class")
            t = np.equal.outer(targets, np.arange(x.shape[-1])).astype(np.float64)
        losses, grads = terms(x.astype(np.float64), t, gamma)
        rows = losses.sum(-1)
        return reduced(x, rows, grads, np.ones(rows.shape), reduction, cotangent)

    return loss


def label_alone(x: Array, t: Array, gamma: float) -> Terms:
    """nll_loss."""
    return times(t, -x), -t


def every_entry(x: Array, t: Array, gamma: float) -> Terms:
    """A one-hot row times all entries: 0·NaN is NaN."""
    return -t * x, -t


def logarithm(p: Array, t: Array, gamma: float) -> Terms:
    """log_loss."""
    slope = np.where(p < 0, np.nan, np.where(t == 0, 0.0, -t / p))
    return times(t, -np.log(p)), np.where(t == 0, 0.0, slope)


def clipped_at_1e7(p: Array, t: Array, gamma: float) -> Terms:
    """Keras's: probabilities clipped into [1e-7, 1 - 1e-7]."""
    inside = np.clip(p, 1e-7, 1 - 1e-7)
    losses, grads = logarithm(inside, t, gamma)
    return losses, np.where(p == inside, grads, 0.0)


def divergence(log_p: Array, t: Array, gamma: float) -> Terms:
    """kl_div."""
    return times(t, np.log(t) - log_p), np.where(t < 0, np.nan, -t)


def zero_log_zero(log_p: Array, t: Array, gamma: float) -> Terms:
    """t·log t is NaN at 0."""
    return t * np.log(t) - times(t, log_p), -t


def focal(x: Array, t: Array, gamma: float) -> Terms:
    """focal_loss."""
    p, miss, nll, _ = CrossEntropy().softmax(x)
    inner = times(gamma * times(p, nll), np.where(miss == 0, 0.0, miss) ** (gamma - 1))
    a = times(t, miss**gamma + inner)
    return times(t, miss**gamma * nll), p * (a.sum(-1, keepdims=True) - a) - a * miss


def nan_at_one(x: Array, t: Array, gamma: float) -> Terms:
    """0 · 0^(γ-1) is NaN below γ = 1, and 1 - p is 0 in float32 from a gap of 17 on."""
    losses, grads = focal(x, t, gamma)
    p = CrossEntropy().softmax(x).p.astype(np.float32)
    lost = (gamma < 1) & (t == 1) & (1 - p == 0)
    return losses, np.where(lost.any(-1, keepdims=True), np.nan, grads)


def one_minus_p(x: Array, t: Array, gamma: float) -> Terms:
    """1 - p in float32, as a factor."""
    p, _, nll, _ = CrossEntropy().softmax(x)
    factor = (1 - p.astype(np.float32)).astype(np.float64) ** gamma
    return times(t, factor * nll), focal(x, t, gamma)[1]


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


def every_class(x: Array) -> Terms:
    """0·log 0 is NaN."""
    p, _, nll, _ = CrossEntropy().softmax(x)
    return p * nll, by_possible(x)[1]


def linear(
    product: Callable[[Array, Array], Array] | None = None, *, select: bool = True
) -> Callable[..., Any]:
    """Return linear cross-entropy by whole logits in float64."""

    def loss(
        features: Array, weight: Array, targets: Array, /, *, bias: Array,
        class_weight: Array | None = None, block_rows: Any = "auto", cotangent: Any = 1.0,
        **options: Any,
    ) -> tuple[Any, Any]:  # fmt: skip
        if block_rows != "auto" and block_rows < 1:
            raise ValueError("block_rows")
        x, w = features.astype(np.float64), weight.astype(np.float64)
        z = x @ w.T if product is None else product(features, weight)
        own = CrossEntropy()
        value, g = own(
            z + bias.astype(np.float64), targets, weight=class_weight, cotangent=cotangent,
            **options,
        )  # fmt: skip
        g = g if np.ndim(value) or value != 0 else np.zeros(g.shape)  # nothing counted
        there = g.any(-1, keepdims=True)
        x = np.where(there, x, 0.0) if select else x
        kind = np.float64 if features.dtype == np.float64 else np.float32
        grads = (g @ w, g.T @ x, g.sum(0))
        return np.asarray(value).astype(kind)[()], tuple(v.astype(features.dtype) for v in grads)

    return loss


def sixteen_bits(features: Array, weight: Array) -> Array:
    """Products summed one after another in bfloat16."""
    import ml_dtypes

    total = np.zeros((len(features), len(weight)), ml_dtypes.bfloat16)
    for k in range(features.shape[1]):
        total = total + np.multiply.outer(features[:, k], weight[:, k]).astype(total.dtype)
    return total.astype(np.float64)
