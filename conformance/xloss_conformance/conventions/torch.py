"""PyTorch: f(input, target), classes on axis 1, labels of int64, its reductions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import exp, prod
from typing import Any, ClassVar

import numpy as np
import torch

from ..model import BINARY, Case, Differs
from . import base
from .base import Convention, Loss, Options, averages, named, over, rows, taken

F = "torch.nn.functional"
CLASSES = named("weight", "ignore_index", "reduction", axis="")
ELEMENTS = named("reduction", sample_weight="weight")
LEAST = exp(-100)  # binary_cross_entropy clamps its logarithms at -100


def categorical_entropy(logits: torch.Tensor) -> torch.Tensor:
    """Return the entropy of each row of logits."""
    rows: Any = torch.distributions.Categorical(logits=logits, validate_args=False)
    return torch.as_tensor(rows.entropy())


class Torch(Convention):
    name = "torch"
    package = "torch"
    home = "torch"
    functions: ClassVar[Mapping[str, str]] = {
        "cross_entropy": f"{F}:cross_entropy",
        "nll_loss": f"{F}:nll_loss",
        "binary_cross_entropy_with_logits": f"{F}:binary_cross_entropy_with_logits",
        "binary_cross_entropy": f"{F}:binary_cross_entropy",
        "sigmoid_focal_loss": "torchvision.ops:sigmoid_focal_loss",
        "kl_div": f"{F}:kl_div",
        "entropy": f"{__name__}:categorical_entropy",
    }
    takes: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "cross_entropy": named("label_smoothing", **CLASSES),
        "nll_loss": CLASSES,
        "binary_cross_entropy_with_logits": named("pos_weight", **ELEMENTS),
        "binary_cross_entropy": ELEMENTS,
        "sigmoid_focal_loss": named("alpha", "gamma", "reduction"),
        "kl_div": named("log_target", "reduction", axis=""),
        "entropy": named(axis=""),
    }

    def lacks(self, case: Case) -> str | None:
        if case.options.get("ignore_index", 0) is None:
            return "ignore_index is always a number"
        if case.loss == "nll_loss" and not case.index:
            return "nll_loss takes class indices alone"
        if case.loss == "binary_cross_entropy":
            assert case.targets is not None
            if base.outside(case.x) or base.outside(case.targets):
                return "rejects probabilities outside [0, 1], NaN among them"
        if case.index and case.targets is not None and case.targets.dtype == np.uint64:
            return "takes labels of int64, which not every uint64 is"
        return None

    def differs(self, case: Case, dtype: str) -> Differs | None:
        if case.loss in BINARY:
            return self._binary(case)
        asked = base.smoothed_plainly(case)
        return self._mean(asked) if averages(case) else asked

    def _mean(self, asked: Differs) -> Differs:
        case, shape = asked.case, rows(asked.case)
        if case.loss == "kl_div":
            batch = shape[0] if shape else case.x.shape[0]
            same = batch == prod(shape) and batch
            return asked if same else over(asked, batch, "batchmean divides by the first axis")
        if not case.index:
            return over(asked, prod(shape), "the mean of soft targets is over the rows")
        assert case.targets is not None
        weight = case.options.get("weight")
        labels = case.targets[~base.ignored(case)]
        if not labels.size:
            return over(asked, 0, "the mean over nothing")
        if weight is None or ((labels < 0) | (labels >= len(weight))).any():
            return asked
        if np.any(weight[labels.astype(np.int64)] != 0):
            return asked
        # The gradient is 0/0 by the same definition: it says nothing.
        return over(Differs(replace(case, value_only=True), asked.note), 0, "the mean over nothing")

    def _binary(self, case: Case) -> Differs:
        asked = Differs(case, "")
        if case.loss == "binary_cross_entropy":
            assert case.targets is not None
            x, t = case.x, case.targets.astype(np.float64)
            wrong = ((x < LEAST) & (t != 0)) | ((1 - x < LEAST) & (t != 1))
            if wrong.any():
                # Where it is right, the other logarithm is exactly 0: nothing is clamped.
                right = ((x == 0) & (t == 0)) | ((x == 1) & (t == 1))
                # Its backward, by its documentation "linear" there, is not compared.
                clamped = replace(base.with_options(case, eps=LEAST, where=~right), value_only=True)
                if averages(case):
                    clamped = base.with_options(clamped, normalizer=float(x.size))
                asked = Differs(clamped, "a logarithm is -100 at least")
        if averages(case) and ("sample_weight" in case.options or not case.x.size):
            return over(asked, case.x.size, "the mean is over the elements, whatever their weights")
        return asked

    def call(self, function: Loss, case: Case, x: Any, t: Any, options: Options) -> Any:
        own = self.keywords(case, options)
        axis = options.get("axis", -1)
        if case.loss in ("cross_entropy", "nll_loss"):
            second = min(1, x.ndim - 1)
            soft = t.is_floating_point()
            if t.dtype not in (torch.bool, torch.uint64):
                t = t.movedim(axis, second) if soft else t.to(torch.int64)
            return _called(function, own, x.movedim(axis, second), t)
        if case.loss == "entropy":
            return _called(function, own, x.movedim(axis, -1))
        if case.loss == "kl_div":
            reduction = own.pop("reduction", "mean")
            own |= taken(function, reduction="batchmean" if reduction == "mean" else reduction)
            value = _called(function, own, x.movedim(axis, -1), t.movedim(axis, -1))
            return value.sum(-1) if reduction == "none" else value
        if case.loss == "sigmoid_focal_loss":
            alpha = options.get("alpha")
            own |= taken(function, alpha=-1 if alpha is None else alpha)
            own = {**taken(function, reduction="mean"), **own}
        if "weight" in own:
            own["weight"] = torch.as_tensor(own["weight"], dtype=x.dtype)
        return _called(function, own, x, t.to(x.dtype))


def _called(function: Loss, keywords: Options, *arguments: Any) -> Any:
    """Call a function, or make a module of a class as nn.CrossEntropyLoss and call that."""
    if isinstance(function, type):
        module: Any = function(**keywords)
        return module(*arguments)
    return function(*arguments, **keywords)


CONVENTION = Torch()
