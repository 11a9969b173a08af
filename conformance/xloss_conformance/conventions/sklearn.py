"""scikit-learn: log_loss(labels, probabilities), and the losses inside LogisticRegression."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from sklearn._loss import HalfBinomialLoss, HalfMultinomialLoss

from ..model import Array, Case, Differs
from .base import Convention, Loss, Options, named, outside, rows, with_options

LINEAR = named("reduction", "sample_weight")


def half_loss(
    targets: Array,
    logits: Array,
    *,
    sample_weight: Array | None = None,
    reduction: str = "mean",
    cotangent: Any = 1.0,
) -> tuple[Any, Array]:
    """Return the loss that LogisticRegression minimises, and its gradient, as its solver does.

    Of logits of several classes that is the multinomial one, of a logit a row the binomial one.
    """
    several = logits.ndim == 2
    loss = HalfMultinomialLoss(n_classes=logits.shape[1]) if several else HalfBinomialLoss()
    logits = np.ascontiguousarray(logits)
    targets = np.array(targets, logits.dtype)
    values, grads = loss.loss_gradient(targets, logits, sample_weight=sample_weight)
    upstream = np.asarray(cotangent)
    upstream = upstream[:, None] if upstream.ndim and several else upstream
    grads = np.asarray(grads * upstream, logits.dtype)
    if reduction == "none":
        return values, grads
    total = len(values) if sample_weight is None else sample_weight.sum()
    total = total if reduction == "mean" else 1
    return values.sum() / total, grads / total


class Sklearn(Convention):
    name = "sklearn"
    package = "scikit-learn"
    functions: ClassVar[Mapping[str, str]] = {
        "log_loss": "sklearn.metrics:log_loss",
        "binary_cross_entropy": "sklearn.metrics:log_loss",
        "cross_entropy": f"{__name__}:half_loss",
        "binary_cross_entropy_with_logits": f"{__name__}:half_loss",
    }
    takes: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "log_loss": named("sample_weight", axis="", reduction=""),
        "binary_cross_entropy": named("sample_weight", reduction=""),
        "cross_entropy": named(axis="", **LINEAR),
        "binary_cross_entropy_with_logits": LINEAR,
    }
    ignores = False

    def refuses(self, function: Loss, case: Case) -> str | None:
        own = self.functions.get(self.kind(case), "").startswith(__name__)
        if case.error is not None and own:
            return "its callers check what it is given"  # it would read beyond the arrays
        return super().refuses(function, case)

    def lacks(self, case: Case) -> str | None:
        binary = "binary" in case.loss
        if not binary and not case.index:
            return "takes labels, no probabilities, as targets"
        if case.x.ndim != (1 if binary else 2) or case.axis % case.x.ndim != case.x.ndim - 1:
            return "takes rows in one axis, classes in the last"
        if not len(case.x) or (not binary and case.x.shape[1] < 2):
            return "takes one row and two classes at least"
        if case.loss in ("log_loss", "binary_cross_entropy"):
            if outside(case.x):
                return "rejects probabilities outside [0, 1], NaN among them"
            if case.options.get("reduction") == "none":
                return "gives no loss a row"
            assert case.targets is not None
            if binary and not np.isin(case.targets, (0, 1)).all():
                return "takes labels, no probabilities, as targets"
        if case.tile > 1:
            return "takes no 0 strides"
        return None

    def differs(self, case: Case, dtype: str) -> Differs | None:
        if case.loss not in ("log_loss", "binary_cross_entropy"):
            return None
        eps = float(np.finfo(dtype).eps)
        inside = (eps <= case.x) & (case.x <= 1 - eps)
        if inside.all():
            return None
        return Differs(with_options(case, eps=eps), "clips probabilities at the dtype's epsilon")

    def call(self, function: Loss, case: Case, x: Any, t: Any, options: Options) -> Any:
        own = self.keywords(case, options)
        if own.get("sample_weight") is not None:
            weight = np.broadcast_to(own["sample_weight"], rows(case))
            own["sample_weight"] = np.array(weight, x.dtype)
        if case.loss in ("log_loss", "binary_cross_entropy"):
            own["normalize"] = options.get("reduction", "mean") == "mean"
            own["labels"] = np.arange(2 if case.loss == "binary_cross_entropy" else x.shape[1])
        return function(t, x, **own)


CONVENTION = Sklearn()
