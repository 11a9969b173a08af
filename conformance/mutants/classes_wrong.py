"""The other losses over classes, on NumPy, with one mistake each."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from . import others as o
from . import planted
from .numpy_right import Array, CrossEntropy, times
from .others import Terms

focal = partial(planted, "focal", loss="focal_loss", by=partial(o.ByClasses, gamma=2.0))
nll = partial(planted, "nll", loss="nll_loss", by=o.ByClasses)
log_loss = partial(planted, "log loss", loss="log_loss", by=o.ByClasses)
kl = partial(planted, "kl", loss="kl_div", by=o.divergences)
entropy = partial(planted, "entropy", loss="entropy", by=o.entropy)


@focal("gradient")
def nan_at_one(x: Array, t: Array, gamma: float) -> Terms:
    """0 · 0^(γ-1) is NaN below γ = 1, and 1 - p is 0 in float32 from a gap of 17 on."""
    losses, grads = o.focal(x, t, gamma)
    p = CrossEntropy().softmax(x).p.astype(np.float32)
    lost = (gamma < 1) & (t == 1) & (1 - p == 0)
    return losses, np.where(lost.any(-1, keepdims=True), np.nan, grads)


@focal()
def one_minus_p(x: Array, t: Array, gamma: float) -> Terms:
    """1 - p in float32, as a factor."""
    p, _, nll, _ = CrossEntropy().softmax(x)
    factor = (1 - p.astype(np.float32)).astype(np.float64) ** gamma
    return times(t, factor * nll), o.focal(x, t, gamma)[1]


@focal("gradient")
def factor_detached(x: Array, t: Array, gamma: float) -> Terms:
    """(1-p)^γ is taken for a constant: its own gradient is missing."""
    p, miss, _, _ = CrossEntropy().softmax(x)
    a = times(t, miss**gamma)
    return o.focal(x, t, gamma)[0], p * (a.sum(-1, keepdims=True) - a) - a * miss


@focal()
def weighted_twice(x: Array, t: Array, gamma: float) -> Terms:
    """Class weights multiply the cross-entropy, and the focal loss once more."""
    return o.focal(x, t**2, gamma)


@nll()
def every_entry(x: Array, t: Array, gamma: float) -> Terms:
    """A one-hot row times all entries: 0·NaN is NaN."""
    return -t * x, -t


@nll()
def normalised_again(x: Array, t: Array, gamma: float) -> Terms:
    """The log_softmax of what are log-probabilities already."""
    return times(t, CrossEntropy().softmax(x).nll), -t


@nll("gradient")
def p_minus_t(x: Array, t: Array, gamma: float) -> Terms:
    """The gradient to the logits that the log-probabilities came from."""
    return o.label_alone(x, t, gamma)[0], np.exp(x) * t.sum(-1, keepdims=True) - t


@nll(by=partial(o.mean_over, o.ByClasses(o.label_alone)))
def mean_over_rows(x: Array, options: dict[str, Any]) -> Any:
    """Whatever they weigh."""
    return np.broadcast_to(options.get("where", True), x.shape[:-1]).sum()


@log_loss()
def clipped_at_1e7(p: Array, t: Array, gamma: float) -> Terms:
    """Keras's: probabilities clipped into [1e-7, 1 - 1e-7]."""
    inside = np.clip(p, 1e-7, 1 - 1e-7)
    losses, grads = o.logarithm(inside, t, gamma)
    return losses, np.where(p == inside, grads, 0.0)


@log_loss()
def divided_by_sum(p: Array, t: Array, gamma: float) -> Terms:
    """scikit-learn's and Keras's: rows of probabilities are divided by their sum."""
    total = p.sum(-1, keepdims=True)
    losses, grads = o.logarithm(p / total, t, gamma)
    return losses, grads / total + t.sum(-1, keepdims=True) / total


@log_loss("gradient")
def reciprocal_first(p: Array, t: Array, gamma: float) -> Terms:
    """t·(1/p) in float32."""
    losses, grads = o.logarithm(p, t, gamma)
    slope = times(-t, (1 / p.astype(np.float32)).astype(np.float64))
    return losses, np.where(np.isnan(grads), grads, slope)


@log_loss("gradient")
def slope_of_no_logarithm(p: Array, t: Array, gamma: float) -> Terms:
    """-t/p where p is negative and the loss NaN."""
    return o.logarithm(p, t, gamma)[0], np.where(t == 0, 0.0, -t / p)


@kl(by=partial(o.mean_over, o.divergences()))
def mean_over_elements(x: Array, options: dict[str, Any]) -> int:
    """PyTorch's "mean": over the classes too."""
    return x.size


@kl()
def of_the_targets_from_the_predictions(log_p: Array, t: Array, gamma: float) -> Terms:
    """KL(p‖t) in place of KL(t‖p)."""
    p = np.exp(log_p)
    return times(p, log_p - np.log(t)), times(p, log_p - np.log(t) + 1)


@kl()
def masked_class_read(log_p: Array, t: Array, gamma: float) -> Terms:
    """0·log 0 is 0 by a guard, but 0·(-inf) of a masked class is NaN."""
    return times(t, np.log(t)) - t * log_p, -t


@kl(by=partial(o.divergences, o.divergence))
def target_of_minus_infinity(log_p: Array, log_t: Array, gamma: float) -> Terms:
    """With log_target, exp(-inf)·(-inf - log p) is NaN."""
    return np.exp(log_t) * (log_t - log_p), -np.exp(log_t)


@entropy()
def zero_log_zero(x: Array) -> Terms:
    """0·log 0 is NaN."""
    p, _, nll, _ = CrossEntropy().softmax(x)
    return p * nll, o.by_possible(x)[1]


@entropy()
def log_of_p_plus_epsilon(x: Array) -> Terms:
    """-Σ p·log(p + 1e-9), against log 0."""
    p = CrossEntropy().softmax(x).p
    return -p * np.log(p + 1e-9), o.by_possible(x)[1]


@entropy("gradient")
def gradient_without_entropy(x: Array) -> Terms:
    """p·nll for the gradient p (nll - H): it does not sum to 0 over the classes."""
    p, _, nll, _ = CrossEntropy().softmax(x)
    return o.by_possible(x)[0], times(p, nll)
