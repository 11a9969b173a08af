"""Losses of one probability an element, on NumPy, with one mistake each."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from . import Array, Asked, Options, Terms, asked, instead, plain, planted, right
from .weights_wrong import over, without

LOGITS, PROBABILITIES = "binary_cross_entropy_with_logits", "binary_cross_entropy"
FOCAL = "sigmoid_focal_loss"
logits = partial(planted, "binary logits", loss=LOGITS)
asked_logits = partial(asked, "binary logits", loss=LOGITS)
probabilities = partial(planted, "binary probabilities", loss=PROBABILITIES)
asked_probabilities = partial(asked, "binary probabilities", loss=PROBABILITIES)
focal = partial(planted, "sigmoid focal", loss=FOCAL)
of_logits, of_probabilities = partial(right, LOGITS), partial(right, PROBABILITIES)
of_focal = partial(right, FOCAL)


def sigmoid(x: Array) -> Array:
    """Return probabilities in float32."""
    return np.asarray(1 / (1 + np.exp(-x.astype(np.float32))))


def factor(x: Array, t: Array) -> Array:
    """Return the 1 - p_t of a focal loss."""
    x, t = x.astype(np.float64), t.astype(np.float64)
    p, miss = (np.exp(-np.logaddexp(0, sign * x)) for sign in (-1, 1))
    return np.asarray(p * (1 - t) + miss * t)


@logits()
def log_of_sigmoid(x: Array, t: Array, /, **options: Any) -> Terms:
    """log(sigmoid(x)) in float32."""
    value, grad = of_logits(x, t, options)
    if "pos_weight" in options:
        return value, grad
    return of_probabilities(sigmoid(x).astype(x.dtype), t, options)[0], grad


@logits("gradient")
def p_minus_t(x: Array, t: Array, /, **options: Any) -> Terms:
    """p - t in float32."""
    value, grad = of_logits(x, t, options)
    exact = of_logits(x.astype(np.float64), t, {"reduction": "sum"})[1]
    return value, instead(grad, sigmoid(x) - t.astype(np.float32), exact)


@asked_logits()
def linear_form(x: Array, t: Array, options: Options) -> Asked:
    """TensorFlow's max(x, 0) - x·t + log1p(exp(-|x|)): inf - inf, and 0·inf, at the ends."""
    return np.where(np.isinf(x), x - x, x), t, options


@asked_logits("gradient")
def pos_weight_not_in_the_gradient(x: Array, t: Array, options: Options) -> Asked:
    return x, t, without(options, "pos_weight")


@logits()
def pos_weight_on_both_terms(x: Array, t: Array, /, **options: Any) -> Terms:
    value, grad = of_logits(x, t, options)
    if "pos_weight" in options:
        # The two terms change places where the signs do: of their sum is left what has no weight.
        value = value + of_logits(-x, 1 - t, options)[0]
        value = value - of_logits(x, t, without(options, "pos_weight"))[0]
    return value, grad


@asked_logits()
@asked("kl", loss="kl_div")
def mean_over_elements(x: Array, t: Array, options: Options) -> Asked:
    """Those that are left out and those of weight 2 count alike; PyTorch's "mean" of kl_div."""
    return over(x, t, options, x.size)


@asked_probabilities()
def clamped_at_100(p: Array, t: Array, options: Options) -> Asked:
    """PyTorch's: a logarithm below -100 is -100."""
    inside = (p >= 0) & (p <= 1)
    return np.where(inside, p, p * np.nan), t, {"eps": np.exp(-100), **options}


@probabilities("gradient")
def slope_clamped(p: Array, t: Array, /, **options: Any) -> Terms:
    """PyTorch's gradient: (p - t) / max(p (1 - p), 1e-12)."""
    value, grad = of_probabilities(p, t, options)
    product = p.astype(np.float64) * (1 - p.astype(np.float64))
    return value, (grad * (product / np.maximum(product, 1e-12))).astype(grad.dtype)


@probabilities()
def end_rounded(p: Array, t: Array, /, **options: Any) -> Terms:
    """1 - eps is rounded to float32: log(1 - p) is off by a fifth at 1e-7."""
    end = np.float32(1 - options.get("eps", 0.0)).astype(p.dtype)
    value, _ = of_probabilities(np.minimum(p, end), t, options)
    return value, of_probabilities(p, t, options)[1]


@asked_probabilities("gradient")
def slope_where_clipped(p: Array, t: Array, options: Options) -> Asked:
    """What is clipped has the gradient of the end that it is clipped to."""
    eps = options.get("eps", 0.0)
    return np.clip(p, eps, 1 - eps), t, without(options, "eps")


@focal()
def factor_of_p(x: Array, t: Array, /, **options: Any) -> Terms:
    """1 - p in float32; where rows are reduced it is right."""
    value, grad = of_focal(x, t, options)
    p = sigmoid(x)
    wrong = p * (1 - t) + (1 - p) * t
    return (instead(value, wrong**2, factor(x, t) ** 2) if np.ndim(value) else value), grad


@focal("gradient")
def loss_times_gamma(x: Array, t: Array, /, **options: Any) -> Terms:
    """γ·ce in float32 before p (1-p), which is 0 where it is infinite."""
    value, grad = of_focal(x, t, options)
    twice = 2 * of_logits(x, t, {"reduction": "none"})[0]
    return value, plain(np.where(np.isinf(twice), np.nan, grad), grad)


@asked("sigmoid focal", loss=FOCAL)
def alpha_of_the_negatives(x: Array, t: Array, options: Options) -> Asked:
    """α weighs the negatives, and 1 - α the positives."""
    return x, t, {**options, "alpha": 1 - options["alpha"]} if "alpha" in options else options
