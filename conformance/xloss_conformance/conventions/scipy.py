"""SciPy has no loss: what users write of scipy.special, f(x, targets, axis), a number a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from scipy import special

from ..model import Array, Case, Differs
from .base import Convention, Loss, Options, averages, near_certain, over, reduced, rows, weighs


def cross_entropy(logits: Array, labels: Array, axis: int = -1) -> Array:
    """Return -log softmax(logits) at the labels."""
    log_probs = special.log_softmax(logits, axis=axis)
    picked = np.take_along_axis(log_probs, np.expand_dims(labels, axis), axis=axis)
    return np.asarray(-np.squeeze(picked, axis))


def soft_cross_entropy(logits: Array, targets: Array, axis: int = -1) -> Array:
    """Return -Σ t log softmax(logits)."""
    return np.asarray(-(targets * special.log_softmax(logits, axis=axis)).sum(axis))


def log_loss(probs: Array, targets: Array, axis: int = -1) -> Array:
    """Return -Σ t log p, where 0·log 0 is 0."""
    return np.asarray(-special.xlogy(targets, probs).sum(axis))


def kl_div(probs: Array, targets: Array, axis: int = -1) -> Array:
    """Return Σ t log(t/p)."""
    return np.asarray(special.rel_entr(targets, probs).sum(axis))


def entropy(logits: Array, axis: int = -1) -> Array:
    """Return -Σ p log p of p = softmax(logits)."""
    return np.asarray(special.entr(special.softmax(logits, axis=axis)).sum(axis))


def binary_cross_entropy_with_logits(logits: Array, targets: Array) -> Array:
    """Return -t log p - (1-t) log(1-p) of p = sigmoid(logits)."""
    return np.asarray(
        -targets * special.log_expit(logits) - (1 - targets) * special.log_expit(-logits)
    )


def binary_cross_entropy(probs: Array, targets: Array) -> Array:
    """Return -t log p - (1-t) log(1-p), where 0·log 0 is 0."""
    return np.asarray(-special.xlogy(targets, probs) - special.xlog1py(1 - targets, -probs))


ALONG: Mapping[str, str] = {"axis": "axis", "reduction": ""}


class Scipy(Convention):
    name = "scipy"
    package = "scipy"
    functions: ClassVar[Mapping[str, str]] = {
        "cross_entropy": f"{__name__}:cross_entropy",
        "cross_entropy soft": f"{__name__}:soft_cross_entropy",
        "log_loss soft": f"{__name__}:log_loss",
        "kl_div": f"{__name__}:kl_div",
        "entropy": f"{__name__}:entropy",
        "binary_cross_entropy_with_logits": f"{__name__}:binary_cross_entropy_with_logits",
        "binary_cross_entropy": f"{__name__}:binary_cross_entropy",
    }
    takes: ClassVar[Mapping[str, Mapping[str, str]]] = {
        **dict.fromkeys(functions, ALONG),
        "binary_cross_entropy_with_logits": {"reduction": ""},
        "binary_cross_entropy": {"reduction": ""},
    }
    ignores = False

    def lacks(self, case: Case) -> str | None:
        if case.loss == "log_loss" and case.index:
            return "xlogy takes probabilities as targets"
        if case.loss == "kl_div" and near_certain(case):
            return "takes probabilities, whose logarithm near 1 is mostly their rounding"
        if case.loss == "kl_div" and case.targets is not None and (case.targets < 0).any():
            return "rel_entr is infinite by definition where a target is negative"
        return None

    def differs(self, case: Case, dtype: str) -> Differs | None:
        asked = Differs(case, "")
        if case.loss == "kl_div":
            with np.errstate(all="ignore"):
                x = np.log(np.exp(case.x.astype(dtype)).astype(np.float64))
            asked = Differs(replace(case, x=x), "takes probabilities")
        count = int(np.prod(rows(case)))
        if averages(case) and (not count or weighs(case)):
            return over(asked, count, "np.mean is over the rows")
        return asked

    def call(self, function: Loss, case: Case, x: Any, t: Any, options: Options) -> Any:
        own = self.keywords(case, options)
        if case.loss == "entropy":
            return function(x, **own)
        if case.loss == "kl_div":
            x = np.exp(x)  # rel_entr takes probabilities
        if not case.index:
            t = np.asarray(t, x.dtype)
        return reduced(function(x, t, **own), options, np.mean, np.sum)


CONVENTION = Scipy()
