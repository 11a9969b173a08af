"""Where rows lie in memory, in numbers that compiled code can use."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np

from .._arrays.inspect import Array

CACHE_LINE = 64  # bytes
# Elements. Below, another library copies an array faster than it takes over its memory.
ALIGNED_FROM = 2**10


class RowLayout(NamedTuple):
    """Where the rows of (*rows, classes) lie, all but the address counted in elements.

    Class c of row r lies (r // inner)·outer_step + (r % inner)·inner_step + c·class_step behind the
    address.
    """

    address: int = 0
    inner: int = 1
    outer_step: int = 0
    inner_step: int = 0
    class_step: int = 1


def row_layout(x: Array) -> RowLayout | None:
    """Return the layout of a NumPy array or a tensor in host memory.

    None where the rows must be copied to be read: of another byte order, not aligned, with strides
    that are no whole elements or negative, or more than two that do not merge.
    """
    if isinstance(x, np.ndarray):
        size, flags = x.itemsize, x.flags
        if not (x.dtype.isnative and flags.aligned):
            return None
        address = x.__array_interface__["data"][0]
        in_order, count = flags.c_contiguous, x.size
        strides: Sequence[int] = x.strides
    else:
        size, address = 1, x.data_ptr()
        if address % x.itemsize:
            return None
        in_order, count, strides = x.is_contiguous(), x.numel(), x.stride()
    if in_order and count:  # nearly every array; what follows takes longer than a small loss
        classes = x.shape[-1]
        return RowLayout(address, count // classes, 0, classes, 1)
    if any(step % size for step in strides):
        return None
    return _merged(address, x.shape, [step // size for step in strides])


def gpu_row_layout(library: Any, x: Array) -> RowLayout | None:
    """Return the layout of an array on a GPU, of a library as `gpu_arrays.of` knows it."""
    found = _merged_at_zero(tuple(x.shape), library.steps(x))
    return None if found is None else found._replace(address=library.address(x))


def aligned(shape: tuple[int, ...], dtype: Any) -> Any:
    """Return a new array in C order, not filled, that begins where a cache line does.

    TensorFlow takes over such memory without a copy; handed any other, it ends the process.
    """
    size = prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + CACHE_LINE, np.uint8)
    start = -memory.__array_interface__["data"][0] % CACHE_LINE
    return memory[start : start + size].view(dtype).reshape(shape)


@lru_cache(maxsize=1024)
def _merged_at_zero(shape: tuple[int, ...], strides: tuple[int, ...]) -> RowLayout | None:
    """Return a layout but for its address, from memory where a call like it came before."""
    return _merged(0, shape, strides)


def _merged(address: int, shape: Any, strides: Sequence[int]) -> RowLayout | None:
    """Merge neighbouring axes of rows whose elements lie as if the two were one axis."""
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
    return RowLayout(address, inner, outer_step, inner_step, class_step)


def element_address(a: Any, i: int) -> int:
    """Return the address of element i of a NumPy array in C order; 0 for None."""
    return 0 if a is None else int(a.__array_interface__["data"][0]) + i * a.itemsize


def readable_labels(labels: Any) -> int:
    """Return the address of labels that a kernel can read as they are; 0 where it cannot."""
    if labels is None or labels.ndim == 0 or labels.dtype != np.int64:
        return 0
    return element_address(labels, 0) if labels.flags.c_contiguous and labels.flags.aligned else 0
