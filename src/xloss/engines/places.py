"""Where rows lie in memory, in numbers that compiled code can use."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .._xp import Array


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
        if not (x.dtype.isnative and x.flags.aligned):
            return None
        size = x.itemsize
        strides = [s // size for s in x.strides]
        address = x.__array_interface__["data"][0]
    else:
        strides = list(x.stride())
        address = x.data_ptr()
    return _merged(address, x.shape, strides)


def places(home: Any, x: Array) -> Place | None:
    """Say the same of an array on a GPU, which its library's `home` knows."""
    return _merged(home.address(x), x.shape, home.steps(x))


def _merged(address: int, shape: Any, strides: list[int]) -> Place | None:
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
