"""optax: f(logits, labels), one number a row; their mean or sum is the user's, by jax.numpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
import optax

from ..model import BINARY, Case, Differs
from . import base
from .base import Convention, Loss, Options, averages, named, over, rows, weighs

ALONG = named("axis", "where", reduction="")


class Optax(Convention):
    name = "optax"
    package = "optax"
    home = "jax"
    functions: ClassVar[Mapping[str, str]] = {
        "cross_entropy": "optax:softmax_cross_entropy_with_integer_labels",
        "cross_entropy soft": "optax:softmax_cross_entropy",
        "binary_cross_entropy_with_logits": "optax:sigmoid_binary_cross_entropy",
        "sigmoid_focal_loss": "optax:sigmoid_focal_loss",
        "kl_div": "optax.losses:kl_divergence",
        "kl_div log": "optax.losses:kl_divergence_with_log_targets",
    }
    takes: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "cross_entropy": ALONG,
        "cross_entropy soft": named(**ALONG, label_smoothing="", ignore_index=""),
        "binary_cross_entropy_with_logits": named(reduction=""),
        "sigmoid_focal_loss": named("alpha", "gamma", reduction=""),
        "kl_div": named(**ALONG, log_target=""),
        "kl_div log": named(**ALONG, log_target=""),
    }
    ignores = False

    def kind(self, case: Case) -> str:
        return "kl_div log" if case.options.get("log_target") else super().kind(case)

    def lacks(self, case: Case) -> str | None:
        if "label_smoothing" in case.options and case.axis % case.x.ndim != case.x.ndim - 1:
            return "smooth_labels works along the last axis"
        return None

    def differs(self, case: Case, dtype: str) -> Differs | None:
        where = np.broadcast_to(case.options.get("where", True), rows(case))
        if averages(case) and not where.any():
            # The gradient is 0/0 by the same definition: it says nothing.
            return Differs(replace(case, value_only=True), "jnp.mean over nothing is NaN", np.nan)
        asked = base.smoothed_plainly(case)
        if averages(case) and weighs(case):
            return over(asked, float(where.sum()), "jnp.mean is over the rows")
        return asked

    def call(self, function: Loss, case: Case, x: Any, t: Any, options: Options) -> Any:
        own = self.keywords(case, options)
        where = own.get("where")
        if where is not None:
            axis = options.get("axis", -1)
            where = jnp.broadcast_to(where, jnp.moveaxis(x, axis, -1).shape[:-1])
            own["where"] = jnp.expand_dims(where, axis)
        if options.get("label_smoothing"):
            t = optax.smooth_labels(t, options["label_smoothing"])
        if case.loss in BINARY:
            t = jnp.asarray(t, x.dtype)
        mean, total = (partial(of, where=where) for of in (jnp.mean, jnp.sum))
        return base.reduced(function(x, t, **own), options, mean, total)


CONVENTION = Optax()
