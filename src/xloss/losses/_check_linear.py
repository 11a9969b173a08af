"""Checks of the weight and the bias that turn features into logits."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .._arrays.context import Context
from .._arrays.inspect import FLOATS, Array, dtype_name, spread
from ..core.linear import Linear
from . import _check as check
from ._hints import fixed_hint
from ._lengths import is_empty, same_shape


class Shaped(NamedTuple):
    """The shape of logits that are never computed as a whole."""

    shape: tuple[Any, ...]

    @property
    def ndim(self) -> int:
        return len(self.shape)


def checked(
    x: Array, weight: Any, bias: Any, block_rows: Any, cx: Context, *, empty: bool = False
) -> Linear:
    """Check weight, bias and block_rows; empty: a weight may have no classes, as on some ranks."""
    if spread(x) or spread(weight):
        raise TypeError(
            "features, weight: DTensors are not taken; give each rank's own, and group="
        )
    if x.ndim == 0:
        raise ValueError("features: expected at least one axis, got shape ()")
    width = x.shape[-1]

    def floating(name: str, a: Any, expected: str) -> Array:
        a = check.same_home(name, a, cx, "features", expected)
        if dtype_name(a.dtype) not in FLOATS:
            raise TypeError(f"{name}: expected {expected}, got {check.described(a)}")
        return a

    # A message is formatted only where it is raised: formatting a length makes torch.compile treat
    # it as a constant.
    w = floating("weight", weight, "a floating array of shape (classes, features)")
    if w.ndim != 2 or not same_shape((width,), tuple(w.shape[1:])):
        raise ValueError(f"weight: expected shape (classes, {width}), got {tuple(w.shape)}")
    classes = w.shape[0]
    if classes != classes or classes is None:
        raise ValueError("weight: the class axis must have a known length")
    if not empty and is_empty(classes):
        raise ValueError(f"weight: expected at least one class, got shape {tuple(w.shape)}")
    if bias is not None:
        bias = floating("bias", bias, "a floating array of shape (classes,)")
        if not same_shape(tuple(bias.shape), (classes,)):
            raise ValueError(f"bias: expected shape ({classes},), got {tuple(bias.shape)}")
    if isinstance(block_rows, str) and block_rows == "auto":
        return Linear(w, bias, None)
    if isinstance(block_rows, bool) or not isinstance(block_rows, (int, np.integer)):
        raise TypeError(
            f'block_rows: expected "auto" or an int, got {check.described(block_rows)}'
            + fixed_hint("block_rows", block_rows, "int")
        )
    if block_rows < 1:
        raise ValueError(f"block_rows: expected at least 1, got {block_rows}")
    return Linear(w, bias, int(block_rows))
