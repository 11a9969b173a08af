"""Linear cross-entropy on Dask: one graph over chunks of rows and of classes, nothing computed."""

from __future__ import annotations

from typing import Any

import dask.array as da

from .._xp import Array, cast
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
    assert call.linear is not None
    parts = [name for name in wanted if name != "targets"]
    chunked, x, keep = _logits(call)
    asked = ("x",) * bool(parts) + ("targets",) * ("targets" in wanted)
    got, made = whole.value_and_grad(chunked, asked, cotangent)
    grads = {} if "targets" not in made else {"targets": made["targets"]}
    if parts:
        g = made["x"]
        rows = tuple(range(g.ndim - 1))
        if "x" in parts:
            w = cast(call.cx, call.linear.weight, call.cx.acc)
            down = da.tensordot(g, w, axes=(g.ndim - 1, 0))
            grads["x"] = down if keep is None else da.where(keep[..., None], down, 0.0)
        if "weight" in parts:
            grads["weight"] = da.tensordot(g, x, axes=(rows, rows))
        if "bias" in parts:
            grads["bias"] = da.sum(g, axis=rows, dtype=call.cx.wide)
    return got, rounded(call, grads)


def _logits(call: Call) -> tuple[Call, Array, Array | None]:
    """Return the call on logits of a chunk for each chunk of rows and of classes; features; keep.

    A chunk of features holds whole rows: its products are summed at once.
    """
    o, linear, spec, cx = call.operands, call.linear, call.spec, call.cx
    assert linear is not None
    bare = o if spec.indexed else o._replace(targets=None)
    keep = prepare(bare, spec, cx, call.classes).keep
    x = cast(cx, o.x, cx.acc).rechunk({o.x.ndim - 1: -1})
    if keep is not None:
        keep = whole._like(keep, x.chunks[:-1])
        x = da.where(keep[..., None], x, 0.0)  # type: ignore[index]
    w = cast(cx, linear.weight, cx.acc).rechunk({1: -1})
    z = da.tensordot(x, w, axes=(x.ndim - 1, 1))
    if linear.bias is not None:
        z = z + cast(cx, linear.bias, cx.acc)
    return call._replace(operands=o._replace(x=z), linear=None), x, keep
