"""Keras: f(y_true, y_pred), one number a row; its own `keras.losses.Loss` weighs and reduces them.

Keras runs on one library a process: the one that KERAS_BACKEND names; where it names none, JAX,
or PyTorch if there is no JAX. Gradients are taken by that library.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np

from ..model import BINARY, Array, Case, Differs, Missing
from ..rounding import numpy_dtype
from . import base
from .base import Convention, Loss, Options, averages, ignored, named, rows, taken, weighs

os.environ.setdefault("KERAS_BACKEND", "jax" if find_spec("jax") else "torch")
import keras  # only now: it reads the name at once

if keras.backend.backend() not in ("jax", "torch", "tensorflow"):
    raise Missing(
        f"keras: runs on {keras.backend.backend()}; set KERAS_BACKEND to jax, torch or tensorflow"
    )

EPSILON = 1e-7  # keras.config.epsilon(), unless it is set
LOSSES = "keras.losses"
MEAN = {"mean": "sum_over_batch_size", "none": None}
COMMON = named(sample_weight="", reduction="")
SPARSE = named("axis", ignore_index="ignore_class", **COMMON)
DENSE = named("axis", "label_smoothing", ignore_index="", **COMMON)
BINARY_OWN = named("label_smoothing", **COMMON)


class Rows(keras.losses.Loss):  # type: ignore[misc]
    """What `model.compile(loss=function)` makes of a function: rows, weighed and reduced."""

    def __init__(self, function: Loss, own: Options, **options: Any) -> None:
        super().__init__(**options)
        self.function, self.own = function, own

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return self.function(y_true, y_pred, **self.own)


class Keras(Convention):
    name = "keras"
    package = "keras"
    functions: ClassVar[Mapping[str, str]] = {
        "cross_entropy": f"{LOSSES}:sparse_categorical_crossentropy",
        "cross_entropy soft": f"{LOSSES}:categorical_crossentropy",
        "log_loss": f"{LOSSES}:sparse_categorical_crossentropy",
        "log_loss soft": f"{LOSSES}:categorical_crossentropy",
        "focal_loss": f"{LOSSES}:categorical_focal_crossentropy",
        "binary_cross_entropy_with_logits": f"{LOSSES}:binary_crossentropy",
        "binary_cross_entropy": f"{LOSSES}:binary_crossentropy",
        "sigmoid_focal_loss": f"{LOSSES}:binary_focal_crossentropy",
        "kl_div": f"{LOSSES}:kl_divergence",
    }
    takes: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "cross_entropy": SPARSE,
        "cross_entropy soft": DENSE,
        "log_loss": SPARSE,
        "log_loss soft": DENSE,
        "focal_loss": named("axis", "label_smoothing", "gamma", weight="alpha", **COMMON),
        "binary_cross_entropy_with_logits": BINARY_OWN,
        "binary_cross_entropy": BINARY_OWN,
        "sigmoid_focal_loss": named("gamma", alpha="", **COMMON),
        "kl_div": named(axis="", **COMMON),
    }
    ignores = False

    def __init__(self) -> None:
        self.home = str(keras.backend.backend())

    def refuses(self, function: Loss, case: Case) -> str | None:
        column = case.index and case.targets is not None and case.targets.shape[-1:] == (1,)
        if case.error is not None and (case.instead or column):
            return "converts what it is given: integers, columns of labels"
        return super().refuses(function, case)

    def lacks(self, case: Case) -> str | None:
        last = base.on_last_axis(case)
        if case.loss in ("cross_entropy", "log_loss") and case.index:
            if case.options.get("ignore_index", 0) is None:
                return "ignore_class is a number, or none is"
            if self.home == "jax" and not last:
                return "sparse_categorical_crossentropy takes classes on the last axis on JAX"
        smoothed = bool(case.options.get("label_smoothing")) and case.loss not in BINARY
        if smoothed and not last:
            return "smooths by the size of the last axis, wherever the classes are"
        if case.loss == "kl_div" and base.near_certain(case):
            return "takes probabilities, whose logarithm near 1 is mostly their rounding"
        if case.loss == "focal_loss" and case.index:
            assert case.targets is not None
            flat = case.targets.ravel().tolist()
            if not all(0 <= label < case.x.shape[case.axis] for label in flat):
                return "takes one-hot targets, which say no other label"
        return None

    def differs(self, case: Case, dtype: str) -> Differs | None:
        asked = self._clipped(base.smoothed_plainly(case), dtype)
        counted = int(np.sum(~ignored(case))) if averages(case) else 0
        if counted and (weighs(case) or {"sample_weight", "weight"} & set(case.options)):
            note = "sum_over_batch_size divides by the rows, whatever their weights"
            return base.over(asked, counted, note)
        return asked

    def _clipped(self, asked: Differs, dtype: str) -> Differs:
        """Return the case whose probabilities are what they are clipped to, in their dtype.

        Where one is clipped the gradient is of another function: there is none to compare.
        """
        case, kind = asked.case, numpy_dtype("float64" if dtype == "float64" else "float32")

        def within(values: Array, most: float) -> tuple[Array, bool]:
            low, high = np.asarray([EPSILON, most], np.float64).astype(kind)
            clipped = np.asarray(np.clip(values.astype(kind), low, high), np.float64)
            return clipped, bool(np.any((clipped == low) | (clipped == high)))

        with np.errstate(all="ignore"):
            if case.loss == "log_loss":
                x, _ = within(case.x / case.x.sum(case.axis, keepdims=True), 1 - EPSILON)
                note = "divides probabilities by their sum and clips them at 1e-7"
                return asked.also(note, case=replace(case, x=x, value_only=True))
            if case.loss == "binary_cross_entropy":
                x, clipped = within(case.x, 1 - EPSILON)
                if clipped:
                    one = replace(case, x=x, value_only=True)
                    return asked.also("clips probabilities at 1e-7", case=one)
            if case.loss == "kl_div":
                assert case.targets is not None
                p, clipped = within(np.exp(case.x.astype(kind)), 1.0)
                t, also = within(case.targets, 1.0)
                one = replace(case, x=np.log(p), targets=t, value_only=clipped or also)
                return asked.also("takes probabilities, and clips both into [1e-7, 1]", case=one)
        return asked

    def call(self, function: Loss, case: Case, x: Any, t: Any, options: Options) -> Any:
        own = self.keywords(case, options)
        if ignored(case).any():
            own["ignore_class"] = options.get("ignore_index", -100)
        if case.loss != "kl_div":
            logits = case.loss not in ("log_loss", "binary_cross_entropy")
            own |= taken(function, from_logits=logits)
        axis = options.get("axis", -1)
        if case.loss in BINARY:  # its mean along the last axis is then of one element
            x, t = keras.ops.expand_dims(x, -1), keras.ops.expand_dims(t, -1)
            if options.get("alpha") is not None:
                own |= {"alpha": options["alpha"], "apply_class_balancing": True}
        elif case.loss == "focal_loss":
            own = {**taken(function, alpha=1.0), **own}
            if "weight" in options:
                shape = [1] * x.ndim
                shape[axis] = -1
                own["alpha"] = keras.ops.reshape(own["alpha"], shape)
            if case.index:
                t = keras.ops.one_hot(t, x.shape[axis], axis=axis, dtype=str(case.x.dtype))
        elif case.loss == "kl_div":
            x = keras.ops.exp(keras.ops.moveaxis(x, axis, -1))
            t = keras.ops.moveaxis(t, axis, -1)
        weight = options.get("sample_weight")
        if weight is not None:
            weight = keras.ops.broadcast_to(weight, rows(case))
        reduction = options.get("reduction", "mean")
        made: dict[str, Any] = {"reduction": MEAN.get(reduction, reduction)}
        if "float64" in str(x.dtype):
            made["dtype"] = "float64"  # else it computes in floatx, float32 unless it is set
        make: Any = partial(Rows, function, own)
        if isinstance(function, type):  # of keras.losses.Loss
            make = partial(function, **own)
        return make(**made)(t, x, sample_weight=weight)


CONVENTION = Keras()
