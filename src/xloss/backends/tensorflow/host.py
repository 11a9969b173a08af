"""Eager tensors in the host's memory: the engines read them as NumPy arrays, without a copy."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from ..._arrays.context import context, read
from ..._arrays.inspect import Array
from ...core.call import LossCall
from ...core.linear import Linear
from ...core.options import Operands
from ...core.weights import mean_weights
from ...engines.row_layout import ALIGNED_FROM, CACHE_LINE, aligned
from . import tapes


def takes(call: LossCall, *others: Any) -> bool:
    """Tell whether the engines can read every tensor of a call as a NumPy array.

    A call that asks for the generic engine by name is computed by TensorFlow's own operations.
    """
    if not call.cx.on_host or call.options.engine == "generic":
        return False
    linear = call.linear or (None,)
    return tapes.readable(*call.operands, *linear, call.normalizer, *others)


def view(a: Any) -> Any:
    """Return a NumPy array on a tensor's memory; anything else as it is."""
    return np.asarray(a) if tf.is_tensor(a) else a


def tensor(a: Any) -> Array:
    """Return an array of our own as a tensor, on the same memory where TensorFlow can use it."""
    a = np.asarray(a)
    if a.size < ALIGNED_FROM:
        return tf.constant(a)
    if a.dtype.name == "bfloat16":  # which DLPack does not take from NumPy
        return tf.bitcast(tensor(a.view(np.uint16)), tf.bfloat16)
    if a.__array_interface__["data"][0] % CACHE_LINE or not a.flags.c_contiguous:
        copy = aligned(a.shape, a.dtype)
        np.copyto(copy, a)
        a = copy
    return tf.experimental.dlpack.from_dlpack(a.__dlpack__())


def numpy_call(call: LossCall) -> LossCall:
    """Return the call on NumPy views of its tensors, the weights of a mean scaled to near 1."""
    o, linear = Operands(*map(view, call.operands)), call.linear
    if linear is not None:
        linear = Linear(view(linear.weight), view(linear.bias), linear.block_rows)
    cx = context(o.x, np)
    if call.cx.values_readable or call.cx.labels_verified:
        cx = read(cx, call.cx.labels_verified)
    o, n = mean_weights(o, call.options, cx, call.classes, view(call.normalizer))
    return call._replace(cx=cx, operands=o, normalizer=n, linear=linear)
