"""Losses of one probability an element, on NumPy, with one mistake each."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import others as o
from .numpy_right import Array, times
from .others import ByElement, Terms


def log_of_sigmoid(x: Array, t: Array) -> Terms:
    """log(sigmoid(x)) in float32."""
    p = 1 / (1 + np.exp(-x.astype(np.float32)))
    return times(t, -np.log(p)) + times(1 - t, -np.log(1 - p)), o.from_logits(x, t)[1]


def p_minus_t(x: Array, t: Array) -> Terms:
    """p - t in float32."""
    p = 1 / (1 + np.exp(-x.astype(np.float32)))
    return o.from_logits(x, t)[0], (p - t.astype(np.float32)).astype(np.float64)


def linear_form(x: Array, t: Array) -> Terms:
    """TensorFlow's max(x, 0) - x·t + log1p(exp(-|x|)): inf - inf, and 0·inf, at the ends."""
    losses = np.maximum(x, 0) - x * t + np.log1p(np.exp(-np.abs(x)))
    return losses, o.from_logits(x, t)[1]


def log_of_p_plus_epsilon(x: Array, t: Array) -> Terms:
    """log(p + 1e-7), against log 0."""
    p, miss = 1 / (1 + np.exp(-x)), 1 / (1 + np.exp(x))
    losses = -t * np.log(p + 1e-7) - (1 - t) * np.log(miss + 1e-7)
    return losses, o.from_logits(x, t)[1]


def logits_clipped(x: Array, t: Array) -> Terms:
    """Logits beyond 50 are taken for 50, and have no gradient."""
    losses, grads = o.from_logits(np.clip(x, -50, 50), t)
    return losses, np.where(np.abs(x) > 50, 0.0, grads)


def no_gradient(terms: ByElement, x: Array, t: Array, w: Array) -> Terms:
    """pos_weight is in the loss, and not in its gradient."""
    return o.two_terms(terms, x, t, w)[0], terms(x, t)[1]


def both_terms(terms: ByElement, x: Array, t: Array, w: Array) -> Terms:
    """pos_weight weighs the negative term too."""
    losses, grads = terms(x, t)
    return times(w, losses), times(w, grads)


def clamped_at_100(p: Array, t: Array) -> Terms:
    """PyTorch's: a logarithm below -100 is -100."""
    losses, grads = o.from_probabilities(p, t)
    yes, no = np.minimum(-np.log(p), 100), np.minimum(-np.log1p(-p), 100)
    return np.where(np.isnan(losses), losses, times(t, yes) + times(1 - t, no)), grads


def clipped_at_1e7(p: Array, t: Array) -> Terms:
    """Keras's: probabilities clipped into [1e-7, 1 - 1e-7]."""
    return o.clipped(o.from_probabilities, p, t, 1e-7)


def zero_log_zero(p: Array, t: Array) -> Terms:
    """0·log 0 is NaN."""
    return -t * np.log(p) - (1 - t) * np.log1p(-p), o.from_probabilities(p, t)[1]


def slope_clamped(p: Array, t: Array) -> Terms:
    """PyTorch's gradient: (p - t) / max(p (1 - p), 1e-12)."""
    losses, grads = o.from_probabilities(p, t)
    return losses, np.where(np.isnan(grads), grads, (p - t) / np.maximum(p * (1 - p), 1e-12))


def end_rounded(terms: ByElement, p: Array, t: Array, eps: float) -> Terms:
    """1 - eps is rounded to float32: log(1 - p) is off by a fifth at 1e-7."""
    inside = np.clip(p, eps, np.float64(np.float32(1 - eps)))
    losses, grads = terms(inside, t)
    return losses, np.where(p == inside, grads, 0.0)


def slope_where_clipped(terms: ByElement, p: Array, t: Array, eps: float) -> Terms:
    """What is clipped has the gradient of the end that it is clipped to."""
    return o.clipped(terms, p, t, eps)[0], terms(np.clip(p, eps, 1 - eps), t)[1]


def sigmoid_focal_of_p(x: Array, t: Array) -> Terms:
    """1 - p in float32."""
    p = (1 / (1 + np.exp(-x))).astype(np.float32).astype(np.float64)
    m = p * (1 - t) + (1 - p) * t
    return times(m**2, o.from_logits(x, t)[0]), o.sigmoid_focal(x, t)[1]


def focal_factor_detached(x: Array, t: Array) -> Terms:
    """(1-p_t)^γ is taken for a constant: its own gradient is missing."""
    losses, slope = o.from_logits(x, t)
    p, miss = o.from_logits(x, np.zeros(()))[1], -o.from_logits(x, np.ones(()))[1]
    m = p * (1 - t) + miss * t
    return times(m**2, losses), times(m**2, slope)


def focal_of_exp(x: Array, t: Array) -> Terms:
    """1 - p_t as 1 - exp(-ce), in float32."""
    ce, _ = o.from_logits(x, t)
    m = (1 - np.exp(-ce.astype(np.float32))).astype(np.float64)
    return times(m**2, ce), o.sigmoid_focal(x, t)[1]


def of_negatives(t: Array, alpha: float) -> Array:
    """α weighs the negatives, and 1 - α the positives."""
    return o.alpha_weight(1 - t, alpha)


def positives_alone(t: Array, alpha: float) -> Any:
    """α weighs the positives, and nothing weighs the negatives."""
    return alpha * t + (1 - t)
