"""Arrays in the chunks of the logits, even where Dask does not know how long those are.

A filter such as ``x[mask]`` leaves chunks whose lengths are unknown until they are computed. Two
arrays that were filtered in the same way have equally many chunks: these are paired, and their
lengths compared when they are computed. Where the numbers of chunks differ, the lengths of the
logits' chunks become part of the graph.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import nan
from typing import Any

import dask.array as da
import numpy as np

from ..._arrays.context import Context, context
from ..._arrays.inspect import Array, namespace
from .labels import LENGTH, WHOLE_AXIS, row_labels


def blockwise(step: Any, out: tuple[str, ...], /, *args: Any, dtype: Any, **options: Any) -> Array:
    """Apply a step to chunks that are aligned already; `out` labels the axes of the result."""
    meta = np.empty((0,) * len(out), dtype=dtype)
    made: Array = da.blockwise(  # type: ignore[no-untyped-call]
        step, out, *args, align_arrays=False, dtype=dtype, meta=meta, **options
    )
    return made


def quietly(step: Callable[..., Any], first: Array, *others: Any, dtype: Any = np.float64) -> Array:
    """Apply a step elementwise; others: numbers. What overflows there warns of nothing."""
    labels = row_labels(first.ndim)
    args = [part for a in others for part in (a, () if hasattr(a, "ndim") else None)]
    return blockwise(_quiet, labels, first, labels, *args, step=step, dtype=dtype)


def _quiet(first: Array, *others: Any, step: Any) -> Array:
    cx = context(first, namespace(first))
    with cx.quiet():
        made: Array = step(cx, first, *others)
    return made


def cast(a: Array, dtype: Any) -> Array:
    """Return an array in a dtype; what is beyond its range becomes infinite."""
    return a if a.dtype == dtype else quietly(partial(_cast, dtype=dtype), a, dtype=dtype)


def _cast(cx: Context, a: Array, dtype: Any) -> Array:
    return cx.cast(a, dtype)


def added(a: Array, axis: Any = None, dtype: Any = None) -> Array:
    """Sum elements; a sum that overflows warns of nothing."""
    dtype = a.dtype if dtype is None else dtype
    made: Array = da.reduction(a, _added, _added, axis=axis, dtype=dtype)  # type: ignore[no-untyped-call]
    return made


def _added(a: Array, axis: Any, keepdims: bool, dtype: Any = None) -> Array:
    xp = namespace(a)
    with context(a, xp).quiet():
        total: Array = xp.sum(a, axis=axis, keepdims=keepdims, dtype=dtype)
    return total


def rechunk_like(name: str, a: Array, x: Array, axes: tuple[int, ...]) -> Array:
    """Return an array in the chunks of x: axis k of a is axis `axes[k]` of x."""
    known = {}
    for k, axis in enumerate(axes):
        own, wanted = a.chunks[k], x.chunks[axis]
        if own == wanted:
            continue
        if all(n == n for n in (*own, *wanted)):  # no length is NaN, or unknown
            known[k] = wanted
        elif len(own) != len(wanted):
            a = _rechunk_by_lengths(name, a, k, x, axis)
    return a.rechunk(known) if known else a


def broadcast_like(name: str, a: Array, x: Array, rows: tuple[int, ...]) -> Array:
    """Return one number a row in the chunks of x, broadcast to the axes `rows` of x if need be."""
    axes = rows[len(rows) - a.ndim :]
    stretched = [k for k, axis in enumerate(axes) if a.shape[k] == 1 and x.shape[axis] != 1]
    if len(axes) == len(rows) and not stretched:
        return rechunk_like(name, a, x, rows)
    part = a[tuple(0 if k in stretched else slice(None) for k in range(a.ndim))]
    own_axes = tuple(axis for k, axis in enumerate(axes) if k not in stretched)
    # One number a row of x, read for its shape alone.
    lead = x[(..., *(0,) * (x.ndim - len(rows)))]
    labels = row_labels(len(rows))
    return blockwise(
        _broadcast,
        labels,
        lead,
        labels,
        rechunk_like(name, part, x, own_axes),
        tuple(labels[rows.index(axis)] for axis in own_axes),
        argument=name,
        axes=tuple(rows.index(axis) for axis in own_axes),
        dtype=a.dtype,
    )


def _broadcast(lead: Array, a: Array, argument: str, axes: tuple[int, ...]) -> Array:
    """Broadcast a chunk to the shape of `lead`; its axis k is axis `axes[k]` of that."""
    expected = tuple(lead.shape[axis] for axis in axes)
    if tuple(a.shape) != expected:
        raise ValueError(f"{argument}: in a chunk, expected shape {expected}, got {tuple(a.shape)}")
    shape = [n if axis in axes else 1 for axis, n in enumerate(lead.shape)]
    xp = namespace(lead)
    return xp.broadcast_to(xp.reshape(xp.asarray(a), tuple(shape)), lead.shape)


def _rechunk_by_lengths(name: str, a: Array, k: int, x: Array, axis: int) -> Array:
    """Return an array whose axis k has the chunks that x is found to have along `axis`.

    One task holds the array whole along that axis, which is small beside the logits.
    """
    x_labels = row_labels(x.ndim)
    along = (x_labels[axis],)
    lengths = blockwise(
        _length,
        along,
        x,
        x_labels,
        axis=axis,
        adjust_chunks=dict.fromkeys(along, 1),
        dtype=np.int64,
    )
    ends = da.cumsum(lengths, axis=0)
    options: dict[str, Any] = {"concatenate": True, "dtype": a.dtype}
    labels = row_labels(a.ndim)
    # As axis k is not in the output, Dask concatenates its chunks, of whatever lengths.
    whole = (*labels[:k], WHOLE_AXIS, *labels[k + 1 :])
    a = blockwise(_unchanged, whole, a, labels, new_axes={WHOLE_AXIS: nan}, **options)
    return blockwise(
        _part,
        labels,
        a,
        whole,
        lengths,
        (labels[k],),
        ends,
        (labels[k],),
        ends[-1:],
        (LENGTH,),
        argument=name,
        axis=k,
        adjust_chunks={labels[k]: nan},
        **options,
    )


def _length(blocks: Any, axis: int) -> Array:
    """Return the length of a chunk; Dask gives nested lists of chunks along the other axes."""
    while isinstance(blocks, list):
        blocks = blocks[0]
    return np.asarray([blocks.shape[axis]])


def _unchanged(a: Array) -> Array:
    return a


def _part(whole: Array, length: Any, end: Any, total: Any, argument: str, axis: int) -> Array:
    """Cut one chunk out of an array: `length` before `end`, of `total` in all; each is (1,)."""
    expected, found = int(total[0]), whole.shape[axis]
    if found != expected:
        raise ValueError(f"{argument}: expected length {expected} along axis {axis}, got {found}")
    stop = int(end[0])
    return whole[(slice(None),) * axis + (slice(stop - int(length[0]), stop),)]


def without_empty(x: Array, axis: int = -1) -> Array:
    """Return an array with no chunk of length 0 along the class axis: no classes, no statistics."""
    classes = x.chunks[axis]
    if 0 not in classes or len(classes) == 1:
        return x
    return x.rechunk({axis % x.ndim: tuple(n for n in classes if n)})
