"""Linear cross-entropy on Dask: one graph over chunks of rows and of classes, nothing computed."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np

from .._xp import Array, cast, context, namespace, quiet
from ..core.targets import prepare
from . import dask as whole
from .call import Call
from .linear_blocks import rounded


def value(call: Call) -> Array:
    """Return the loss, lazily."""
    return whole.value(_logits(call)[0])


def value_and_grad(
    call: Call, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the closed-form gradients, lazily."""
    parts = [name for name in wanted if name != "targets"]
    on_logits, x, w, present = _logits(call)
    asked = ("x",) * bool(parts) + ("targets",) * ("targets" in wanted)
    got, made = whole.value_and_grad(on_logits, asked, cotangent)
    grads = {} if "targets" not in made else {"targets": made["targets"]}
    if parts:
        g = made["x"]
        rows = tuple(range(g.ndim - 1))
        classes, width = len(rows), len(rows) + 1
        if "x" in parts:
            down = _product(g, (*rows, classes), w, (classes, width), (*rows, width))
            grads["x"] = down if present is None else da.where(present, down, 0.0)
        if "weight" in parts:
            over = _product(g, (*rows, classes), x, (*rows, width), (classes, width))
            grads["weight"] = over
        if "bias" in parts:
            grads["bias"] = da.sum(g, axis=rows, dtype=call.cx.wide)
    return got, rounded(call, grads)


def _logits(call: Call) -> tuple[Call, Array, Array, Array | None]:
    """Return the call on logits, a chunk for each chunk of rows and of classes.

    And features and weight whose chunks hold whole rows, and which rows' features are read.
    """
    o, linear, spec, cx = call.operands, call.linear, call.spec, call.cx
    assert linear is not None
    x = cast(cx, o.x, cx.acc).rechunk({o.x.ndim - 1: -1})
    w = cast(cx, linear.weight, cx.acc).rechunk({1: -1})
    bare = o if spec.indexed else o._replace(targets=None)
    keep = prepare(bare, spec, cx, call.classes).keep
    present = None if keep is None else whole._like(keep, x.chunks[:-1])[..., None]  # type: ignore[index]
    if spec.reduction == "mean" and not (spec.indexed and o.class_weight is None):
        weighs = prepare(o, spec, cx, call.classes).weight if not spec.indexed else None
        weight = whole.weight(call) if weighs is None else weighs.sum()
        live = whole.contributing(call, weight) != 0
        present = live if present is None else present & live
    if present is not None:
        x = da.where(present, x, 0.0)
    rows = tuple(range(x.ndim - 1))
    z = _product(x, (*rows, len(rows)), w, (len(rows) + 1, len(rows)), (*rows, len(rows) + 1))
    if linear.bias is not None:
        z = z + cast(cx, linear.bias, cx.acc)
    return call._replace(operands=o._replace(x=z), linear=None), x, w, present


def _product(
    a: Array, a_index: tuple[int, ...], b: Array, b_index: tuple[int, ...], out: tuple[int, ...]
) -> Array:
    """Sum a·b over the axes that are not in `out`: chunk by chunk, then the chunks' sums."""
    over = tuple(i for i in a_index if i in b_index)
    axes = [[index.index(i) for i in over] for index in (a_index, b_index)]
    parts = da.blockwise(  # type: ignore[no-untyped-call]
        _piece, (*over, *out), a, a_index, b, b_index, axes=axes, align_arrays=False,
        adjust_chunks=dict.fromkeys(over, 1), dtype=a.dtype,
        meta=np.empty((0,) * (len(over) + len(out)), dtype=a.dtype),
    )  # fmt: skip
    return parts.sum(axis=tuple(range(len(over))))


def _piece(a: Array, b: Array, axes: Any) -> Array:
    xp = namespace(a)
    with quiet(context(a, xp)):
        return xp.tensordot(a, b, axes=axes)[(None,) * len(axes[0])]
