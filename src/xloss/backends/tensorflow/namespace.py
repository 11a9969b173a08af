"""The functions of the Array API standard that xloss calls, over TensorFlow's operations.

Neither TensorFlow nor array-api-compat has such a namespace. Two things differ from the standard:
`device` is accepted and not used, because TensorFlow places an operation itself, and a length that
tf.function does not know yet is None in a shape.
"""

from __future__ import annotations

import math
from functools import partial
from math import inf as inf
from math import nan as nan
from types import SimpleNamespace
from typing import Any

import numpy as np
import tensorflow as tf

from ..._arrays.inspect import Array

__array_api_version__ = "2024.12"

bool = tf.bool
int8, int16, int32, int64 = tf.int8, tf.int16, tf.int32, tf.int64
uint8, uint16, uint32, uint64 = tf.uint8, tf.uint16, tf.uint32, tf.uint64
float16, bfloat16, float32, float64 = tf.float16, tf.bfloat16, tf.float32, tf.float64

exp, log, log1p, tanh = tf.exp, tf.math.log, tf.math.log1p, tf.tanh
abs, floor, isfinite, matmul = tf.abs, tf.floor, tf.math.is_finite, tf.matmul
count_nonzero, zeros_like, ones_like = tf.math.count_nonzero, tf.zeros_like, tf.ones_like
expand_dims, squeeze, permute_dims = tf.expand_dims, tf.squeeze, tf.transpose
stack, take, bitcast = tf.stack, tf.gather, tf.bitcast
concat = partial(tf.concat, axis=0)
Shape = tuple[Any, ...]
FLOAT32_TERMS = 32  # terms of a sum that are added in float32


def __array_namespace_info__() -> Any:
    """Return what xloss asks of it: the dtype of arrays made without one."""
    return SimpleNamespace(default_dtypes=lambda *, device=None: {"real floating": tf.float32})


def asarray(x: Any, *, dtype: Any = None, device: Any = None, copy: Any = None) -> Array:
    """Return a tensor; of a Variable its value."""
    if tf.is_tensor(x):
        x = tf.convert_to_tensor(x)
        return x if dtype is None else tf.cast(x, dtype)
    return tf.constant(x, dtype)


def astype(x: Array, dtype: Any, *, copy: Any = True) -> Array:
    """Convert to another dtype."""
    return tf.cast(x, dtype)


def where(condition: Array, x: Any, y: Any) -> Array:
    """Select; a number takes the dtype of the tensor beside it."""
    if not tf.is_tensor(x):
        x = tf.constant(x, y.dtype)
    elif not tf.is_tensor(y):
        y = tf.constant(y, x.dtype)
    return tf.where(condition, x, y)


def sum(x: Array, *, axis: Any = None, dtype: Any = None, keepdims: Any = False) -> Array:
    """Sum in `dtype`, all elements of a float64 array to the last digit.

    Rows of float32 are first summed in float32, FLOAT32_TERMS terms at a time: TensorFlow stores
    the whole array that it converts, and so converts a smaller one.
    """
    if (axis, dtype, x.dtype) == (-1, tf.float64, tf.float32) and x.shape[-1]:
        few = math.gcd(x.shape[-1], FLOAT32_TERMS)
        if few > 1:
            split = tf.concat([tf.shape(x)[:-1], [x.shape[-1] // few, few]], 0)
            x = tf.reduce_sum(tf.reshape(x, split), -1)
    x = x if dtype is None else tf.cast(x, dtype)
    if axis is None and x.dtype == tf.float64:
        return _total(x)
    return tf.reduce_sum(x, axis, keepdims)


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _total(x: Array) -> Any:
    """Sum all float64 elements; TensorFlow's own sum of 600 of them is 5 ulp off.

    Every element is split at the last digit of 4n times the largest of the n elements. The high
    parts add up without any rounding, in whatever order; the low parts are so small that their
    roundings do not matter.
    """
    most = tf.reduce_max(tf.abs(x))
    beyond = 4.0 * most * tf.cast(tf.size(x, tf.int64), x.dtype)
    high = tf.where(tf.size(x) == 0, x, (x + beyond) - beyond)
    total = tf.reduce_sum(high) + tf.reduce_sum(x - high)
    lengths = tf.shape(x)
    # Infinities, NaN, and sums near the largest number come from the plain sum.
    found = tf.where(tf.math.is_finite(total), total, tf.reduce_sum(x))
    return found, lambda cotangent: tf.fill(lengths, cotangent)


def max(x: Array, *, axis: Any = None, keepdims: Any = False) -> Array:
    """Return the maximum; a NaN wins, which TensorFlow's own reduction does not promise.

    With `keepdims` a NaN need not win, which saves a pass: every element is then subtracted from
    its row's maximum, and a NaN appears in the differences.
    """
    found = tf.reduce_max(x, axis, keepdims)
    if keepdims or not x.dtype.is_floating:
        return found
    lost = tf.reduce_any(tf.math.is_nan(x), axis, keepdims)
    return tf.where(lost, tf.constant(nan, x.dtype), found)


def min(x: Array, *, axis: Any = None, keepdims: Any = False) -> Array:
    """Return the minimum; a NaN wins."""
    if x.dtype.is_floating:
        return -max(-x, axis=axis, keepdims=keepdims)
    return tf.reduce_min(x, axis, keepdims)


def argmax(x: Array, *, axis: Any = None) -> Array:
    """Return the first place of the maximum, of a NaN if there is one."""
    if x.dtype.is_floating:
        # A NaN compares false, so that TensorFlow's argmax passes over it.
        odd = tf.math.is_nan(x)
        first = tf.argmax(tf.cast(odd, tf.int32), axis, tf.int64)
        return tf.where(tf.reduce_any(odd, axis), first, tf.argmax(x, axis, tf.int64))
    return tf.argmax(x, axis, tf.int64)


def all(x: Array, *, axis: Any = None, keepdims: Any = False) -> Array:
    """Tell whether every element is true."""
    return tf.reduce_all(x, axis, keepdims)


def any(x: Array, *, axis: Any = None, keepdims: Any = False) -> Array:
    """Tell whether some element is true."""
    return tf.reduce_any(x, axis, keepdims)


def arange(n: Any, *, dtype: Any = None, device: Any = None) -> Array:
    """Return 0..n-1."""
    return tf.range(tf.cast(n, dtype or tf.int64))


def full(shape: Any, value: Any, *, dtype: Any = None, device: Any = None) -> Array:
    """Return a tensor of one number, which may itself be a tensor of no axis."""
    value = tf.cast(value, dtype or tf.float32)
    return tf.fill(shape, value) if shape != () else value


def zeros(shape: Any, *, dtype: Any = None, device: Any = None) -> Array:
    """Return zeros."""
    return tf.zeros(shape, dtype or tf.float32)


def ones(shape: Any, *, dtype: Any = None, device: Any = None) -> Array:
    """Return ones."""
    return tf.ones(shape, dtype or tf.float32)


def full_like(x: Array, value: Any, *, dtype: Any = None, device: Any = None) -> Array:
    """Return one number in the shape of another tensor."""
    return tf.fill(tf.shape(x), tf.cast(value, dtype or x.dtype))


def reshape(x: Array, shape: Shape, *, copy: Any = None) -> Array:
    """Return the elements in another shape; at most one of its lengths may be unknown."""
    return tf.reshape(x, [-1 if n is None else n for n in shape])


def take_along_axis(x: Array, indices: Array, *, axis: int = -1) -> Array:
    """Return the elements at each row's own places along the last axis."""
    return tf.gather(x, indices, axis=axis, batch_dims=len(x.shape) - 1)


def scatter_many(x: Array, indices: Array, values: Array, first: Array | None) -> Array:
    """Put values at each row's own places along the last axis; see the context's method."""
    shape = tf.shape(x)
    flat = tf.reshape(x, [-1, shape[-1]])
    places = tf.reshape(tf.cast(indices, tf.int64), [-1, tf.shape(indices)[-1]])
    new = tf.reshape(values, tf.shape(places))
    rows = tf.range(tf.shape(places, tf.int64)[0])[:, None] + tf.zeros_like(places)
    at = tf.stack([rows, places], -1)
    if first is None:
        return tf.reshape(tf.tensor_scatter_nd_update(flat, at, new), shape)
    # The derivative of an update is right for places that come once.
    new = tf.where(tf.reshape(first, tf.shape(places)), new, tf.zeros_like(new))
    flat = tf.tensor_scatter_nd_update(flat, at, tf.zeros_like(new))
    return tf.reshape(tf.tensor_scatter_nd_add(flat, at, new), shape)


def broadcast_to(x: Array, shape: Shape) -> Array:
    """Repeat along axes of length 1; an axis whose length is unknown stays as it is."""
    lengths = [*([1] * (len(shape) - len(x.shape))), *x.shape]
    if None not in shape:
        return tf.broadcast_to(x, shape)
    dynamic = [*([1] * (len(shape) - len(x.shape))), *tf.unstack(tf.shape(x), len(x.shape))]
    known = zip(shape, lengths, dynamic, strict=True)
    return tf.broadcast_to(
        x, [(m if m is not None else d) if n is None else n for n, m, d in known]
    )


def row_count(x: Array, classes: int) -> Any:
    """Return the number of rows of logits; a tensor where tf.function does not know it yet."""
    shape = x.shape[:-1] if classes else x.shape
    if shape.is_fully_defined():
        return int(np.prod(shape.as_list(), dtype=np.int64))
    lengths = tf.shape(x, tf.int64)
    return tf.reduce_prod(lengths[:-1] if classes else lengths)


def shaped(x: Any, shape: Any, axis: int | None = None) -> Any:
    """Return targets of unknown rank in the shape that fits logits of this shape.

    That is the shape of the logits; for integers and a class axis, without that axis.
    """
    if not isinstance(x, tf.Tensor) or x.shape.rank is not None:
        return x
    lengths = list(shape)
    if axis is not None and not x.dtype.is_floating:
        del lengths[axis]
    return tf.ensure_shape(x, lengths)


def ranked(name: str, x: Array) -> Array:
    """Return a tensor, of a Variable its value; refuse a tensor of unknown rank."""
    x = asarray(x)
    if x.shape.rank is None:
        raise ValueError(
            f"{name}: its number of axes is unknown where tf.function traces; "
            f"pass tensorflow.ensure_shape({name}, ...), with None for what only a run knows"
        )
    return x
