"""Where rows lie in memory, in numbers that compiled code can use."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .._arrays.inspect import Array


class Place(NamedTuple):
    """Where rows lie in memory, in numbers: see `rows` for the formula."""

    address: int
    inner: int
    outer_step: int
    inner_step: int
    class_step: int


def place(x: Array) -> Place | None:
    """Say where the rows of (*rows, classes) lie; None where they must be copied to be read."""
    if isinstance(x, np.ndarray):
        size = x.itemsize
        if not (x.dtype.isnative and x.flags.aligned) or any(s % size for s in x.strides):
            return None
        strides = [s // size for s in x.strides]
        address = x.__array_interface__["data"][0]
    else:
        strides = list(x.stride())
        address = x.data_ptr()
        if address % x.itemsize:
            return None
    return _merged(address, x.shape, strides)


def places(home: Any, x: Array) -> Place | None:
    """Say the same of an array on a GPU, which its library's `home` knows."""
    found = _layout(tuple(x.shape), home.steps(x))
    return None if found is None else found._replace(address=home.address(x))


@lru_cache(maxsize=1024)
def _layout(shape: tuple[int, ...], strides: tuple[int, ...]) -> Place | None:
    """Remember the same of a shape, but for the address: a call on a small array asks each time."""
    return _merged(0, shape, strides)


def _merged(address: int, shape: Any, strides: Sequence[int]) -> Place | None:
    """Merge the axes of rows, as far as they can be."""
    class_step = strides[-1] if shape[-1] > 1 else 1
    merged: list[tuple[int, int]] = []  # (length, step), the innermost first
    for n, step in zip(shape[-2::-1], strides[-2::-1], strict=True):
        if n == 1:
            continue
        if merged and step == merged[-1][0] * merged[-1][1]:
            merged[-1] = (merged[-1][0] * n, merged[-1][1])
        else:
            merged.append((n, step))
    if len(merged) > 2 or class_step <= 0 or any(step < 0 for _, step in merged):
        return None
    inner, inner_step = merged[0] if merged else (1, 0)
    outer_step = merged[1][1] if len(merged) == 2 else 0
    return Place(address, inner, outer_step, inner_step, class_step)


def element(a: Any, i: int) -> int:
    """Return where element i of a NumPy array in C order lies; 0 for None."""
    return 0 if a is None else int(a.__array_interface__["data"][0]) + i * a.itemsize


def readable_labels(labels: Any) -> int:
    """Return where labels begin that kernels can read as they lie; 0 for others, and for None."""
    if labels is None or labels.ndim == 0 or labels.dtype != np.int64:
        return 0
    return element(labels, 0) if labels.flags.c_contiguous and labels.flags.aligned else 0
