"""Operations that an array library has its own best way to do: gathers, sums, products, casts."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from math import prod
from typing import Any

import numpy as np

from .context import Context
from .inspect import Array

# Integer-array indexing, x[i, j], reads and writes a handful of entries without a pass over x.
_FANCY = {"numpy", "cupy", "torch"}


def quiet(cx: Context) -> AbstractContextManager[Any]:
    """Silence NumPy's floating-point warnings: inf - inf and log 0 are selected away."""
    if cx.library in ("numpy", "array_api_strict") or cx.library not in _SILENT:
        return np.errstate(all="ignore")
    return nullcontext()


_SILENT = {"torch", "jax", "cupy", "dask"}


def fill(cx: Context, x: Array, mask: Array, value: float) -> Array:
    """Put `value` where `mask`; in place where x is an array of our own and the library can."""
    if cx.inplace_ok and cx.library == "torch":
        return x.masked_fill_(mask, value)
    if cx.inplace_ok and cx.library == "numpy":
        np.copyto(x, value, where=mask)
        return x
    return cx.xp.where(mask, value, x)  # x[mask] = value is an option of the standard


def count_true(cx: Context, mask: Array, every: Array) -> Array:
    """Count along the last axis; `every` is one row value, NaN where a row may have none."""
    xp = cx.xp
    # A count along an axis costs as much as the exponential, a count of all nothing.
    if cx.on_host and int(xp.count_nonzero(mask)) == prod(every.shape):
        check = float(sum_all(cx, every))
        if check == check:
            return xp.ones(every.shape[:-1], dtype=cx.sum_dtype, device=cx.device)
    return sum_last(cx, xp.astype(mask, cx.compute_dtype))


def sum_last(cx: Context, x: Array) -> Array:
    """Sum along the last axis, wide."""
    if cx.library == "numpy":
        return np.add.reduce(x, axis=-1, dtype=cx.sum_dtype)
    return cx.xp.sum(x, axis=-1, dtype=cx.sum_dtype)


def sum_all(cx: Context, x: Array) -> Array:
    """Sum all elements, wide."""
    if cx.library == "numpy":
        return np.add.reduce(x, axis=None, dtype=cx.sum_dtype)
    return cx.xp.sum(x, dtype=cx.sum_dtype)


def max_last(cx: Context, x: Array) -> Array:
    """Return the maxima along the last axis, kept with length 1; a NaN wins."""
    if cx.library == "numpy":
        return np.maximum.reduce(x, axis=-1, keepdims=True)
    return cx.xp.max(x, axis=-1, keepdims=True)


def arange(cx: Context, n: int) -> Array:
    """Return 0..n-1 as safe-label dtype on the call's device."""
    return cx.xp.arange(n, dtype=cx.label_dtype, device=cx.device)


def gather(cx: Context, x: Array, labels: Array) -> Array:
    """Return x[..., labels], one entry a row; labels must be safe."""
    if cx.library in _FANCY and x.ndim == 2 and cx.inplace_ok:
        return x[arange(cx, x.shape[0]), labels]
    xp = cx.xp
    at = xp.expand_dims(labels, axis=-1)
    # torch's take_along_axis broadcasts, for which torch.compile fixes every size.
    found = xp.gather(x, -1, at) if cx.library == "torch" else xp.take_along_axis(x, at, axis=-1)
    return xp.squeeze(found, axis=-1)


def scatter(cx: Context, x: Array, labels: Array, values: Array) -> Array:
    """Put one value a row at x[..., labels]; in place where x is an array of our own."""
    values = cx.xp.astype(values, x.dtype, copy=False)
    if cx.library in _FANCY and x.ndim == 2 and cx.inplace_ok:
        x[arange(cx, x.shape[0]), labels] = values
        return x
    hot = arange(cx, x.shape[-1]) == cx.xp.expand_dims(labels, axis=-1)
    return cx.xp.where(hot, cx.xp.expand_dims(values, axis=-1), x)


def take(cx: Context, x: Array, labels: Array) -> Array:
    """Return x[labels] for a one-dimensional x; labels must be safe."""
    if cx.library in _FANCY and cx.inplace_ok:
        return x[labels]
    xp = cx.xp
    return xp.reshape(xp.take(x, xp.reshape(labels, (-1,)), axis=0), labels.shape)


def matmul_into(cx: Context, a: Array, b: Array, out: Array) -> None:
    """Put a @ b into an array of our own."""
    if cx.library == "numpy" and a.shape[1] > b.shape[1]:
        # A long sum for few rows takes OpenBLAS up to twice as long as its transpose.
        out[...] = np.matmul(b.T, a.T).T
    elif cx.library in ("numpy", "torch"):
        cx.xp.matmul(a, b, out=out)
    else:
        out[...] = cx.xp.matmul(a, b)


def matmul_add(cx: Context, total: Array, a: Array, b: Array, most: int) -> None:
    """Add a @ b to an array of our own; `most` rows at a time, where the product needs room."""
    if cx.library == "torch":
        total.addmm_(a, b)
        return
    room = np.empty((most, b.shape[1]), total.dtype) if cx.library == "numpy" else None
    for start in range(0, total.shape[0], most):
        part, rows = total[start : start + most, ...], a[start : start + most, ...]
        if room is None:
            part += cx.xp.matmul(rows, b)
        else:
            part += np.matmul(rows, b, out=room[: part.shape[0]])


def cast(cx: Context, x: Array, dtype: Any) -> Array:
    """Convert without a copy where nothing changes."""
    if x.dtype == dtype:
        return x
    if cx.library == "numpy":
        return x.astype(dtype, copy=False)
    return cx.xp.astype(x, dtype, copy=False)


def cast_into(cx: Context, x: Array, out: Array) -> None:
    """Convert into an array of our own: without another in between, where a library can."""
    out[...] = x if cx.library in ("numpy", "torch", "cupy") else cast(cx, x, out.dtype)


def c_order(cx: Context, x: Array) -> Array:
    """Copy to C order unless it is: the bits of NumPy's sums depend on memory order."""
    if cx.library == "torch":
        return x.contiguous() if cx.inplace_ok else x
    if not cx.inplace_ok:
        return x
    copy = getattr(cx.xp, "ascontiguousarray", None)
    if copy is not None:
        return copy(x)
    return cx.xp.reshape(cx.xp.reshape(x, (-1,)), x.shape)  # both are in C order


def plain(cx: Context, x: Array) -> Array:
    """Return a 0-d NumPy array as the scalar that NumPy's own functions return."""
    return x[()] if cx.library == "numpy" and x.ndim == 0 else x
