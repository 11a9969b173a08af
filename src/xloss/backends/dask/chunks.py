"""Dask arrays cut as the logits are, though Dask knows of some lengths only that they are there.

A filter, ``x[mask]``, leaves chunks whose lengths are found when they are computed. Two arrays
filtered alike have as many chunks, which are paired, and compared when they are computed. Where the
numbers of chunks differ the lengths of the logits' chunks are a part of the graph.
"""

from __future__ import annotations

from math import nan
from typing import Any

import dask.array as da
import numpy as np

from ..._arrays.inspect import Array, namespace


def cut_like(name: str, a: Array, x: Array, axes: tuple[int, ...]) -> Array:
    """Return an array cut along its axes as x is along `axes`."""
    known = {}
    for k, axis in enumerate(axes):
        mine, wanted = a.chunks[k], x.chunks[axis]
        if mine == wanted:
            continue
        if all(n == n for n in (*mine, *wanted)):
            known[k] = wanted
        elif len(mine) != len(wanted):
            a = _cut_by_lengths(name, a, k, x, axis)
    return a.rechunk(known) if known else a


def spread_like(name: str, a: Array, x: Array, rows: tuple[int, ...]) -> Array:
    """Return one number a row, cut as x is along its axes `rows`; broadcast to them if need be."""
    axes = rows[len(rows) - a.ndim :]
    alone = [k for k, axis in enumerate(axes) if a.shape[k] == 1 and x.shape[axis] != 1]
    if len(axes) == len(rows) and not alone:
        return cut_like(name, a, x, rows)
    part = a[tuple(0 if k in alone else slice(None) for k in range(a.ndim))]
    kept = tuple(axis for k, axis in enumerate(axes) if k not in alone)
    lead = x[(..., *(0,) * (x.ndim - len(rows)))]
    return da.blockwise(  # type: ignore[no-untyped-call]
        _spread,
        rows,
        lead,
        rows,
        cut_like(name, part, x, kept),
        kept,
        argument=name,
        axes=tuple(rows.index(axis) for axis in kept),
        align_arrays=False,
        dtype=a.dtype,
        meta=np.empty((0,) * len(rows), dtype=a.dtype),
    )


def _spread(lead: Array, a: Array, argument: str, axes: tuple[int, ...]) -> Array:
    expected = tuple(lead.shape[axis] for axis in axes)
    if tuple(a.shape) != expected:
        raise ValueError(f"{argument}: in a chunk, expected shape {expected}, got {tuple(a.shape)}")
    shape = [n if axis in axes else 1 for axis, n in enumerate(lead.shape)]
    xp = namespace(lead)
    return xp.broadcast_to(xp.reshape(xp.asarray(a), tuple(shape)), lead.shape)


def _cut_by_lengths(name: str, a: Array, k: int, x: Array, axis: int) -> Array:
    """Return an array cut along its axis k as x turns out to be along `axis`.

    The array goes through one task whole along that axis: it is small beside the logits.
    """
    n, every = a.ndim, tuple(range(x.ndim))
    options: dict[str, Any] = {"align_arrays": False, "dtype": np.int64}
    lengths = da.blockwise(  # type: ignore[no-untyped-call]
        _length,
        (axis,),
        x,
        every,
        axis=axis,
        adjust_chunks={axis: 1},
        meta=np.empty((0,), np.int64),
        **options,
    )
    ends = da.cumsum(lengths, axis=0)
    options = {"align_arrays": False, "concatenate": True, "dtype": a.dtype, "meta": a._meta}
    index, whole = tuple(range(n)), tuple(n if i == k else i for i in range(n))
    a = da.blockwise(_as_it_is, whole, a, index, new_axes={n: nan}, **options)  # type: ignore[no-untyped-call]
    return da.blockwise(  # type: ignore[no-untyped-call]
        _part,
        index,
        a,
        whole,
        lengths,
        (k,),
        ends,
        (k,),
        ends[-1:],
        (n + 1,),
        argument=name,
        axis=k,
        adjust_chunks={k: nan},
        **options,
    )


def _length(blocks: Any, axis: int) -> Array:
    while isinstance(blocks, list):
        blocks = blocks[0]
    return np.asarray([blocks.shape[axis]])


def _as_it_is(a: Array) -> Array:
    return a


def _part(whole: Array, length: Any, end: Any, total: Any, argument: str, axis: int) -> Array:
    expected, came = int(total[0]), whole.shape[axis]
    if came != expected:
        raise ValueError(f"{argument}: expected length {expected} along axis {axis}, got {came}")
    stop = int(end[0])
    return whole[(slice(None),) * axis + (slice(stop - int(length[0]), stop),)]


def without_empty(x: Array, axis: int = -1) -> Array:
    """Return an array with no chunk of length 0 along the class axis: no statistic is of none."""
    classes = x.chunks[axis]
    if 0 not in classes or len(classes) == 1:
        return x
    return x.rechunk({axis % x.ndim: tuple(n for n in classes if n)})
