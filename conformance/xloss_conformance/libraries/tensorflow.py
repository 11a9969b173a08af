"""TensorFlow's eager tensors, on the host."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from ..model import Array
from .base import ArrayLibrary, Arrays, Differentiated, Function


class TensorFlow(ArrayLibrary):
    name = "tensorflow"
    module = tf
    types = tf.Tensor
    gradients = "GradientTape"
    same_bits = False  # the order of Eigen's sums depends on the shape of the batch
    layouts = ("C",)  # tensors have no strides
    flushes_generic = ("float16", "bfloat16", "float32", "float64")

    def array(self, values: Array, layout: str = "C") -> Any:
        return tf.constant(values)

    def differentiate(self, function: Function, arguments: Arrays, upstream: Any) -> Differentiated:
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            value = function(*arguments)
        cotangent = tf.broadcast_to(tf.cast(upstream, value.dtype), value.shape)
        zero = tf.UnconnectedGradients.ZERO
        return value, tuple(tape.gradient(value, arguments, cotangent, zero))
