"""Losses of one probability an element, on NumPy, with one mistake each."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from . import others as o
from . import planted
from .numpy_right import Array, times
from .others import ByElement, Terms

binary = partial(planted, by=o.binary)
logits = partial(binary, "binary logits", loss="binary_cross_entropy_with_logits")
probabilities = partial(binary, "binary probabilities", loss="binary_cross_entropy")
focal = partial(binary, "sigmoid focal", loss="sigmoid_focal_loss")
weighted = partial(o.binary, o.from_logits)  # by another `pos_weight`
clip = partial(o.binary, o.from_probabilities, o.two_terms)  # by another `eps`


@logits()
def log_of_sigmoid(x: Array, t: Array) -> Terms:
    """log(sigmoid(x)) in float32."""
    p = 1 / (1 + np.exp(-x.astype(np.float32)))
    return times(t, -np.log(p)) + times(1 - t, -np.log(1 - p)), o.from_logits(x, t)[1]


@logits("gradient")
def p_minus_t(x: Array, t: Array) -> Terms:
    """p - t in float32."""
    p = 1 / (1 + np.exp(-x.astype(np.float32)))
    return o.from_logits(x, t)[0], (p - t.astype(np.float32)).astype(np.float64)


@logits()
def linear_form(x: Array, t: Array) -> Terms:
    """TensorFlow's max(x, 0) - x·t + log1p(exp(-|x|)): inf - inf, and 0·inf, at the ends."""
    losses = np.maximum(x, 0) - x * t + np.log1p(np.exp(-np.abs(x)))
    return losses, o.from_logits(x, t)[1]


@logits("gradient", by=weighted)
def pos_weight_not_in_the_gradient(terms: ByElement, x: Array, t: Array, w: Array) -> Terms:
    return o.two_terms(terms, x, t, w)[0], terms(x, t)[1]


@logits(by=weighted)
def pos_weight_on_both_terms(terms: ByElement, x: Array, t: Array, w: Array) -> Terms:
    losses, grads = terms(x, t)
    return times(w, losses), times(w, grads)


@logits(by=partial(o.mean_over, weighted()))
def mean_over_elements(x: Array, options: dict[str, Any]) -> int:
    """Those that are left out and those of weight 2 count alike."""
    return x.size


@probabilities()
def clamped_at_100(p: Array, t: Array) -> Terms:
    """PyTorch's: a logarithm below -100 is -100."""
    losses, grads = o.from_probabilities(p, t)
    yes, no = np.minimum(-np.log(p), 100), np.minimum(-np.log1p(-p), 100)
    return np.where(np.isnan(losses), losses, times(t, yes) + times(1 - t, no)), grads


@probabilities()
def zero_log_zero(p: Array, t: Array) -> Terms:
    """0·log 0 is NaN."""
    return -t * np.log(p) - (1 - t) * np.log1p(-p), o.from_probabilities(p, t)[1]


@probabilities("gradient")
def slope_clamped(p: Array, t: Array) -> Terms:
    """PyTorch's gradient: (p - t) / max(p (1 - p), 1e-12)."""
    losses, grads = o.from_probabilities(p, t)
    return losses, np.where(np.isnan(grads), grads, (p - t) / np.maximum(p * (1 - p), 1e-12))


@probabilities(by=clip)
def end_rounded(terms: ByElement, p: Array, t: Array, eps: float) -> Terms:
    """1 - eps is rounded to float32: log(1 - p) is off by a fifth at 1e-7."""
    inside = np.clip(p, eps, np.float64(np.float32(1 - eps)))
    losses, grads = terms(inside, t)
    return losses, np.where(p == inside, grads, 0.0)


@probabilities("gradient", by=clip)
def slope_where_clipped(terms: ByElement, p: Array, t: Array, eps: float) -> Terms:
    """What is clipped has the gradient of the end that it is clipped to."""
    return o.clipped(terms, p, t, eps)[0], terms(np.clip(p, eps, 1 - eps), t)[1]


@focal()
def factor_of_p(x: Array, t: Array) -> Terms:
    """1 - p in float32."""
    p = (1 / (1 + np.exp(-x))).astype(np.float32).astype(np.float64)
    m = p * (1 - t) + (1 - p) * t
    return times(m**2, o.from_logits(x, t)[0]), o.sigmoid_focal(x, t)[1]


@focal("gradient")
def factor_detached(x: Array, t: Array) -> Terms:
    """(1-p_t)^γ is taken for a constant: its own gradient is missing."""
    slope, (p, miss) = o.from_logits(x, t)[1], o.both_probabilities(x)
    return o.sigmoid_focal(x, t)[0], times((p * (1 - t) + miss * t) ** 2, slope)


@focal("gradient")
def loss_times_gamma(x: Array, t: Array) -> Terms:
    """γ·ce in float32 before p (1-p), which is 0 where it is infinite."""
    (losses, slope), (p, miss) = o.from_logits(x, t), o.both_probabilities(x)
    m = p * (1 - t) + miss * t
    twice = (4 * losses).astype(np.float32).astype(np.float64) / 2
    grads = times(m, twice * (p * miss * (1 - 2 * t)) + m * slope)
    return o.sigmoid_focal(x, t)[0], grads


@focal(by=partial(o.binary, o.sigmoid_focal, o.two_terms, o.clipped))
def alpha_of_the_negatives(t: Array, alpha: float) -> Array:
    """α weighs the negatives, and 1 - α the positives."""
    return o.alpha_weight(1 - t, alpha)
