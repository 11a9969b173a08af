"""TensorFlow: tf.nn's f(labels, logits), one number a row; tf.reduce_mean or _sum reduces them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from ..model import BINARY, Case, Differs
from .base import Convention, Loss, Options, averages, on_last_axis, reduced, rows, weighs


class TensorFlow(Convention):
    name = "tensorflow"
    package = "tensorflow-cpu"
    home = "tensorflow"
    functions: ClassVar[Mapping[str, str]] = {
        "cross_entropy": "tensorflow:nn.sparse_softmax_cross_entropy_with_logits",
        "cross_entropy soft": "tensorflow:nn.softmax_cross_entropy_with_logits",
        "binary_cross_entropy_with_logits": "tensorflow:nn.sigmoid_cross_entropy_with_logits",
    }
    takes: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "cross_entropy": {"axis": "", "reduction": ""},
        "cross_entropy soft": {"axis": "axis", "ignore_index": "", "reduction": ""},
        "binary_cross_entropy_with_logits": {"reduction": ""},
    }
    ignores = False

    def lacks(self, case: Case) -> str | None:
        if case.loss == "cross_entropy" and case.index and not on_last_axis(case):
            return "takes labels of classes on the last axis"
        if case.loss == "cross_entropy" and weighs(case):
            return "says that its gradient is of targets that sum to 1 in every row"
        return None

    def differs(self, case: Case, dtype: str) -> Differs | None:
        if averages(case) and not np.prod(rows(case)):
            # The gradient is 0/0 by the same definition: it says nothing.
            return Differs(replace(case, value_only=True), "the mean over nothing is 0/0", np.nan)
        return None

    def call(self, function: Loss, case: Case, x: Any, t: Any, options: Options) -> Any:
        if case.loss in BINARY:
            t = tf.cast(t, x.dtype)
        elif case.index and t.dtype not in (tf.int32, tf.int64):
            t = tf.cast(t, tf.int64)  # it takes no other integers as labels
        value = function(t, x, **self.keywords(case, options))
        return reduced(value, options, tf.reduce_mean, tf.reduce_sum)


CONVENTION = TensorFlow()
