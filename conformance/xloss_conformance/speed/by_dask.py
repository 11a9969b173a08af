"""Dask: xloss on chunks, and the loss that one writes with Dask's own operations."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import dask
import dask.array as da
import numpy as np

import xloss

from .clock import Call
from .contenders import Contender
from .cuts import LIMIT, spots
from .work import Data, Work

INPUT = "xloss-bench-input"  # how the names of the inputs' chunks begin
Array = Any
Lazy = tuple[Array, ...]  # the loss, and its gradient where one is asked for


def arrays(work: Work) -> tuple[Array, Array]:
    """Return logits and labels, lazily; each chunk is drawn by a generator of its own."""
    labels = np.random.default_rng(0).integers(0, work.classes, work.rows)
    y = da.from_array(  # type: ignore[no-untyped-call]
        labels, chunks=(work.chunks[0],), name=f"{INPUT}-labels-{work.chunks}"
    )
    x = da.map_blocks(  # type: ignore[no-untyped-call]
        _normal,
        name=f"{INPUT}-logits-{work.chunks}",
        dtype=np.float32,
        meta=np.empty((0, 0), np.float32),
        chunks=tuple(_cut(n, size) for n, size in zip(work.shape, work.chunks, strict=True)),
    )
    return x, y


def _cut(length: int, size: int) -> tuple[int, ...]:
    return tuple(min(size, length - start) for start in range(0, length, size))


def _normal(block_info: Any = None) -> Array:
    where = block_info[None]
    made = np.random.default_rng(where["chunk-location"]).standard_normal(
        where["chunk-shape"], dtype=np.float32
    )
    made *= np.float32(3.0)
    return made


# ---- The losses --------------------------------------------------------------------------------


def ours(x: Array, y: Array, gradient: bool) -> Lazy:
    """Return xloss's, as its user writes it."""
    if not gradient:
        return (xloss.cross_entropy(x, y),)
    value, grad = xloss.value_and_grad(xloss.cross_entropy)(x, y)
    return value, grad


def operations(x: Array, y: Array, gradient: bool) -> Lazy:
    """Return the loss by Dask's operations: a stable logsumexp, and the label's logit."""
    most = x.max(axis=-1)
    lse = da.log(da.exp(x - most[:, None]).sum(axis=-1)) + most
    value = (lse - _picked(x, y)).mean()
    if not gradient:
        return (value,)
    hot = y[:, None] == _ids(x)[None, :]
    grad = (da.exp(x - lse[:, None]) - hot) / np.float32(len(x))
    return value, grad


def reduction(x: Array, y: Array, gradient: bool) -> Lazy:
    """Return the loss by functions of a chunk: each is read once for maximum and sum together.

    As fast as one writes it with NumPy: no array that was made is made twice.
    """
    lse = da.reduction(  # type: ignore[no-untyped-call]
        x,
        chunk=_max_and_sum,
        combine=_combined,
        aggregate=_logarithm,
        axis=-1,
        dtype=np.float32,
        concatenate=False,
        meta=np.empty((0,), np.float32),
    )
    value = (lse - _picked(x, y)).mean()
    if not gradient:
        return (value,)
    grad = da.blockwise(  # type: ignore[no-untyped-call]
        _difference,
        "ij",
        x,
        "ij",
        lse,
        "i",
        y,
        "i",
        _ids(x),
        "j",
        rows=len(x),
        dtype=x.dtype,
        align_arrays=False,
        meta=np.empty((0, 0), np.float32),
    )
    return value, grad


def _ids(x: Array) -> Array:
    return da.arange(x.shape[-1], chunks=(x.chunks[-1],))


def _picked(x: Array, y: Array) -> Array:
    """Return the label's logit of each row: of each chunk what stands in it, else 0, summed."""
    parts = da.blockwise(  # type: ignore[no-untyped-call]
        _in_chunk,
        "ij",
        x,
        "ij",
        y,
        "i",
        _ids(x),
        "j",
        adjust_chunks={"j": 1},
        dtype=x.dtype,
        align_arrays=False,
        meta=np.empty((0, 0), np.float32),
    )
    return parts.sum(axis=-1)


def _in_chunk(x: Array, y: Array, ids: Array) -> Array:
    local = y - ids[0]
    here = (local >= 0) & (local < x.shape[1])
    found = x[np.arange(len(x)), np.where(here, local, 0)]
    return np.where(here, found, np.float32(0))[:, None]


def _max_and_sum(x: Array, axis: Any, keepdims: bool) -> tuple[Array, Array]:
    most = x.max(axis=-1, keepdims=True)
    e = x - most
    np.exp(e, out=e)
    return most, e.sum(axis=-1, keepdims=True)


def _flat(parts: Any) -> list[tuple[Array, Array]]:
    """Return the pairs of a nested list."""
    if isinstance(parts, tuple):
        return [parts]
    return [pair for part in parts for pair in _flat(part)]


def _combined(parts: Any, axis: Any, keepdims: bool) -> tuple[Array, Array]:
    pairs = _flat(parts)
    most = np.max([m for m, _ in pairs], axis=0)
    total = np.sum([s * np.exp(m - most) for m, s in pairs], axis=0)
    return most, total


def _logarithm(parts: Any, axis: Any, keepdims: bool) -> Array:
    most, total = _combined(parts, axis, keepdims)
    return (np.log(total) + most)[:, 0]


def _difference(x: Array, lse: Array, y: Array, ids: Array, rows: int) -> Array:
    grad = x - lse[:, None]
    np.exp(grad, out=grad)
    local = y - ids[0]
    (here,) = np.nonzero((local >= 0) & (local < x.shape[1]))
    grad[here, local[here]] -= 1
    grad /= np.float32(rows)
    return grad


# ---- Their calls -------------------------------------------------------------------------------


def _call(loss: Callable[[Array, Array, bool], Lazy], work: Work, given: Data, engine: str) -> Call:
    """Return the call: its graph is built and run, and the gradient stays where its chunks are."""

    def run() -> Lazy:
        made = dask.persist(*loss(given.x, given.y, work.gradient))  # type: ignore[attr-defined,no-untyped-call]
        if work.processes:
            wait(made)
        return (float(made[0].compute()), *made[1:])

    before = settled if work.processes else lambda: None

    def answer(got: Lazy) -> tuple[float, Any]:
        return got[0], _some(work, given, got[1:])

    return Call(run, before=before, answer=answer, engine=engine)


def _some(work: Work, given: Data, grads: Lazy) -> Any:
    """Return some entries of the gradient: of some rows the label's, and others far apart."""
    if not grads:
        return None
    rows = slice(None, None, max(1, work.rows[0] // 8))
    both: Lazy = (grads[0], given.y)
    g, y = (np.asarray(a[rows].compute()) for a in both)
    return spots(g, y)


def wait(made: Lazy) -> None:
    """Wait until the workers have computed it."""
    import distributed

    distributed.wait(made, timeout=LIMIT)  # type: ignore[no-untyped-call]


def settled() -> None:
    """Wait until the cluster has forgotten all results but the inputs, else they would serve."""
    import distributed

    gc.collect()
    client, until = distributed.get_client(), time.monotonic() + LIMIT
    while (
        client.run_on_scheduler(_results)  # type: ignore[no-untyped-call]
        and time.monotonic() < until
    ):
        time.sleep(0.002)


def _results(dask_scheduler: Any) -> int:
    """Return how many results there are that are no input's."""
    return sum(not str(key).startswith(f"('{INPUT}") for key in dask_scheduler.tasks)


def _contender(name: str, said: str, loss: Any, peer: bool = True) -> Contender:
    def prepare(work: Work, given: Data, threads: int) -> Call:
        return _call(loss, work, given, "" if peer else "chosen in each chunk")

    return Contender(name, "dask", said, prepare, peer, "dask" if peer else "")


CONTENDERS = {
    c.name: c
    for c in (
        _contender("xloss dask", "cross_entropy; value_and_grad", ours, False),
        _contender(
            "dask",
            "max, exp, sum and log of dask.array, the label's logit by da.blockwise; "
            "exp(x - lse) - onehot",
            operations,
        ),
        _contender(
            "dask, by chunk",
            "da.reduction, of each chunk maximum and sum in one NumPy function; "
            "of the gradient another, in place",
            reduction,
        ),
    )
}
