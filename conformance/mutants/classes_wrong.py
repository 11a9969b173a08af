"""The other losses over classes, on NumPy, with one mistake each."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import others as o
from .numpy_right import Array, CrossEntropy, times
from .others import ByClass, Terms


def every_entry(x: Array, t: Array, gamma: float) -> Terms:
    """A one-hot row times all entries: 0·NaN is NaN."""
    return -t * x, -t


def normalised_again(x: Array, t: Array, gamma: float) -> Terms:
    """nll_loss of log_softmax of what are log-probabilities already."""
    return times(t, CrossEntropy().softmax(x).nll), -t


def slope_to_logits(terms: ByClass, log: bool) -> ByClass:
    """p - t: the gradient to the logits that the probabilities came from."""

    def wrong(x: Array, t: Array, gamma: float) -> Terms:
        return terms(x, t, gamma)[0], (np.exp(x) if log else x) * t.sum(-1, keepdims=True) - t

    return wrong


def clipped_at_1e7(p: Array, t: Array, gamma: float) -> Terms:
    """Keras's: probabilities clipped into [1e-7, 1 - 1e-7]."""
    inside = np.clip(p, 1e-7, 1 - 1e-7)
    losses, grads = o.logarithm(inside, t, gamma)
    return losses, np.where(p == inside, grads, 0.0)


def divided_by_sum(p: Array, t: Array, gamma: float) -> Terms:
    """scikit-learn's and Keras's: rows of probabilities are divided by their sum."""
    total = p.sum(-1, keepdims=True)
    losses, grads = o.logarithm(p / total, t, gamma)
    return losses, grads / total + t.sum(-1, keepdims=True) / total


def log_plus_epsilon(p: Array, t: Array, gamma: float) -> Terms:
    """log(p + 1e-7), against log 0."""
    return o.logarithm(p + 1e-7, t, gamma)


def nan_at_one(x: Array, t: Array, gamma: float) -> Terms:
    """0 · 0^(γ-1) is NaN below γ = 1, and 1 - p is 0 in float32 from a gap of 17 on."""
    losses, grads = o.focal(x, t, gamma)
    p = CrossEntropy().softmax(x).p.astype(np.float32)
    lost = (gamma < 1) & (t == 1) & (1 - p == 0)
    return losses, np.where(lost.any(-1, keepdims=True), np.nan, grads)


def one_minus_p(x: Array, t: Array, gamma: float) -> Terms:
    """1 - p in float32, as a factor."""
    p, _, nll, _ = CrossEntropy().softmax(x)
    factor = (1 - p.astype(np.float32)).astype(np.float64) ** gamma
    return times(t, factor * nll), o.focal(x, t, gamma)[1]


def focal_factor_detached(x: Array, t: Array, gamma: float) -> Terms:
    """(1-p)^γ is taken for a constant: its own gradient is missing."""
    p, miss, _, _ = CrossEntropy().softmax(x)
    a = times(t, miss**gamma)
    return o.focal(x, t, gamma)[0], p * (a.sum(-1, keepdims=True) - a) - a * miss


def weight_inside_p(x: Array, t: Array, gamma: float) -> Terms:
    """p is exp(-w·nll), of a loss that is weighted already."""
    _, _, nll, _ = CrossEntropy().softmax(x)
    weighted = times(t, nll)
    miss = -np.expm1(-np.where(np.isnan(weighted), 0.0, weighted))
    return times(weighted, miss**gamma), o.focal(x, t, gamma)[1]


def weighted_twice(x: Array, t: Array, gamma: float) -> Terms:
    """Class weights multiply the cross-entropy, and the focal loss once more."""
    return o.focal(x, t**2, gamma)


def elements(x: Array, options: dict[str, Any]) -> int:
    return x.size


def rows_present(x: Array, options: dict[str, Any]) -> Any:
    return np.broadcast_to(options.get("where", True), x.shape[:-1]).sum()


def zero_log_zero(log_p: Array, t: Array, gamma: float) -> Terms:
    """t·log t is NaN at 0."""
    return t * np.log(t) - times(t, log_p), -t


def without_entropy(log_p: Array, t: Array, gamma: float) -> Terms:
    """The cross-entropy -Σ t·log p: Σ t·log t is left out, as it has no gradient to log p."""
    return times(t, -log_p), -t


def reversed_divergence(log_p: Array, t: Array, gamma: float) -> Terms:
    """KL(p‖t) in place of KL(t‖p)."""
    p = np.exp(log_p)
    return times(p, log_p - np.log(t)), times(p, log_p - np.log(t) + 1)


def masked_read(log_p: Array, t: Array, gamma: float) -> Terms:
    """0·log 0 is 0 by a guard, but 0·(-inf) of a masked class is NaN."""
    return times(t, np.log(t)) - t * log_p, -t


def zero_times_minus_infinity(log_p: Array, log_t: Array, gamma: float) -> Terms:
    """exp(-inf)·(-inf - log p) is NaN."""
    return np.exp(log_t) * (log_t - log_p), -np.exp(log_t)


def logged_again(log_p: Array, log_t: Array, gamma: float) -> Terms:
    """log_target is not heard."""
    return o.divergence(log_p, log_t, gamma)


def every_class(x: Array) -> Terms:
    """0·log 0 is NaN."""
    p, _, nll, _ = CrossEntropy().softmax(x)
    return p * nll, o.by_possible(x)[1]


def lse_minus_mean(x: Array) -> Terms:
    """lse - Σ p·x in float32: H of a certain row is the difference of two large numbers."""
    p, _, _, lse = CrossEntropy().softmax(x)
    right, grads = o.by_possible(x)
    mean = times(p, x).sum(-1, keepdims=True).astype(np.float32)
    whole = (lse.astype(np.float32) - mean).astype(np.float64)
    first = np.arange(x.shape[-1]) == 0
    return np.where(np.isfinite(whole), whole * first, right), grads


def log_of_p_plus_epsilon(x: Array) -> Terms:
    """-Σ p·log(p + 1e-9), against log 0."""
    p = CrossEntropy().softmax(x).p
    return -p * np.log(p + 1e-9), o.by_possible(x)[1]


def in_bits(x: Array) -> Terms:
    """Logarithms to base 2."""
    parts, grads = o.by_possible(x)
    return parts / np.log(2), grads / np.log(2)


def slope_without_entropy(x: Array) -> Terms:
    """p·nll for the gradient p (nll - H): it does not sum to 0 over the classes."""
    p, _, nll, _ = CrossEntropy().softmax(x)
    return o.by_possible(x)[0], times(p, nll)
