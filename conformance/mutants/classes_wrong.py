"""The other losses over classes, on NumPy, with one mistake each."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

import xloss

from . import (
    Array,
    Asked,
    Options,
    Terms,
    asked,
    count_of,
    instead,
    plain,
    planted,
    right,
)
from .weights_wrong import COUNTED, over

focal = partial(planted, "focal", loss="focal_loss")
nll = partial(asked, "nll", loss="nll_loss")
log_loss = partial(asked, "log loss", loss="log_loss")
gradient_of_log_loss = partial(planted, "log loss", "gradient", "log_loss")
kl = partial(asked, "kl", loss="kl_div")
entropy = partial(planted, "entropy", loss="entropy")
of_focal, of_entropy = partial(right, "focal_loss"), partial(right, "entropy")
of_logarithms = partial(right, "log_loss")


def factors(x: Array, t: Array, gamma: float) -> tuple[Array, Array]:
    """Return the (1 - p)^γ of labels in float32, and as it is."""
    nll: Any = xloss.cross_entropy(x.astype(np.float64), t, reduction="none")
    return (1 - np.exp(-nll).astype(np.float32)) ** np.float32(gamma), (-np.expm1(-nll)) ** gamma


@focal("gradient")
def nan_at_one(x: Array, t: Array, /, *, gamma: float = 2.0, **options: Any) -> Terms:
    """0 · 0^(γ-1) is NaN below γ = 1, and 1 - p is 0 in float32 from a gap of 17 on."""
    value, grad = of_focal(x, t, {"gamma": gamma, **options})
    certain = np.asarray(xloss.softmax(x), np.float32).max(-1, keepdims=True) == 1
    return value, plain(np.where(certain & (gamma < 1), np.nan, grad), grad)


@focal()
def one_minus_p(x: Array, t: Array, /, *, gamma: float = 2.0, **options: Any) -> Terms:
    """1 - p in float32, as a factor; where rows are reduced it is right."""
    value, grad = of_focal(x, t, {"gamma": gamma, **options})
    labels = np.ndim(value) and t.dtype.kind == "i" and t.min() >= 0
    return (instead(value, *factors(x, t, gamma)) if labels else value), grad


@focal("gradient")
def factor_detached(x: Array, t: Array, /, *, gamma: float = 2.0, **options: Any) -> Terms:
    """(1-p)^γ is taken for a constant: its own gradient is missing."""
    value, grad = of_focal(x, t, {"gamma": gamma, **options})
    if t.dtype.kind == "f" or t.min(initial=0) < 0:
        return value, grad
    exact = of_focal(x, t, {"gamma": gamma, "reduction": "sum"})[1]
    slope = right("cross_entropy", x, t, {"reduction": "sum"})[1]
    return value, instead(grad, factors(x, t, gamma)[1][..., None] * slope, exact)


@asked("focal", loss="focal_loss")
def weighted_twice(x: Array, t: Array, options: Options) -> Asked:
    """Class weights multiply the cross-entropy, and the focal loss once more."""
    x, t, options = over(x, t, options, count_of(t, options, *COUNTED))
    if "weight" in options:
        options["weight"] = options["weight"] ** 2
    return x, t, options


@planted("nll", "gradient", "nll_loss")
def p_minus_t(x: Array, t: Array, /, **options: Any) -> Terms:
    """The gradient to the logits that the log-probabilities came from."""
    return right("nll_loss", x, t, options)[0], right("cross_entropy", x, t, options)[1]


@log_loss()
def clipped_at_1e7(p: Array, t: Array, options: Options) -> Asked:
    """Keras's: probabilities clipped into [1e-7, 1 - 1e-7]."""
    return p, t, {"eps": 1e-7, **options}


@log_loss()
def divided_by_sum(p: Array, t: Array, options: Options) -> Asked:
    """scikit-learn's and Keras's: rows of probabilities are divided by their sum."""
    return p / p.sum(options.get("axis", -1), keepdims=True), t, options


@gradient_of_log_loss()
def reciprocal_first(p: Array, t: Array, /, **options: Any) -> Terms:
    """t·(1/p) in float32."""
    value, grad = of_logarithms(p, t, options)
    infinite = np.isinf(1 / p.astype(np.float32)) & (grad < 0)
    return value, plain(np.where(infinite, -np.inf, grad), grad)


@gradient_of_log_loss()
def slope_of_no_logarithm(p: Array, t: Array, /, **options: Any) -> Terms:
    """-t/p where p is negative and the loss NaN."""
    value, grad = of_logarithms(p, t, options)
    return value, plain(np.where(p < 0, -1 / p, grad), grad)


@kl()
def of_the_targets_from_the_predictions(log_p: Array, t: Array, options: Options) -> Asked:
    """KL(p‖t) in place of KL(t‖p)."""
    return (log_p, t, options) if options.get("log_target") else (np.log(t), np.exp(log_p), options)


@kl()
def target_of_minus_infinity(log_p: Array, t: Array, options: Options) -> Asked:
    """With log_target, exp(-inf)·(-inf - log p) is NaN."""
    lost = (0 * t).sum(options.get("axis", -1), keepdims=True)
    return log_p + lost if options.get("log_target") else log_p, t, options


@entropy()
def log_of_p_plus_epsilon(x: Array, /, *, axis: int = -1, **options: Any) -> Terms:
    """-Σ p·log(p + 1e-9), against log 0."""
    value, grad = of_entropy(x, None, {"axis": axis, **options})
    p = xloss.softmax(x.astype(np.float64), axis=axis)
    return plain(-(p * np.log(p + 1e-9)).sum(axis), value), grad


@entropy("gradient")
def gradient_without_entropy(x: Array, /, *, axis: int = -1, **options: Any) -> Terms:
    """p·nll for the gradient p (nll - H): it does not sum to 0 over the classes."""
    value, grad = of_entropy(x, None, {"axis": axis, **options})
    p = xloss.softmax(x.astype(np.float64), axis=axis)
    with np.errstate(all="ignore"):
        return value, plain(grad + np.expand_dims(value, axis) * p, grad)
