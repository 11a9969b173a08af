"""Linear cross-entropy on Dask: one graph over chunks of rows and of classes, nothing computed."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np

from ..._arrays.context import context
from ..._arrays.inspect import Array, namespace
from ..._arrays.ops import cast, quiet
from ...core.call import LossCall
from ...core.options import Operands
from ...core.targets import prepare
from ..eager.linear import rounded
from . import backend as whole
from . import graph as steps
from .chunks import cut_like, spread_like, without_empty


def value(call: LossCall) -> Array:
    """Return the loss, lazily."""
    if whole.is_one_row(call):
        alone = value(whole.lifted(call))
        return alone[0] if alone.ndim else alone
    return whole.value(_logits(call)[0])


def value_and_grad(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the closed-form gradients, lazily."""
    if whole.is_one_row(call):
        per_row = cotangent is not None and call.options.reduction == "none"
        cot = cotangent[None] if per_row else cotangent
        got, grads = value_and_grad(whole.lifted(call), wanted, cot)
        of_rows = ("x", "targets")
        grads = {name: g[0] if name in of_rows else g for name, g in grads.items()}
        return got[0] if got.ndim else got, grads
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
            grads["x"] = _selected(call, down, present)
        if "weight" in parts:
            over = _product(g, (*rows, classes), x, (*rows, width), (classes, width))
            grads["weight"] = over
        if "bias" in parts:
            grads["bias"] = da.sum(g, axis=rows, dtype=call.cx.sum_dtype)
    return got, rounded(call, grads)


def _logits(call: LossCall) -> tuple[LossCall, Array, Array, dict[str, Array]]:
    """Return the call on logits, a chunk for each chunk of rows and of classes.

    And features and weight whose chunks hold whole rows, and what says which features are read.
    """
    o, linear, options, cx = call.operands, call.linear, call.options, call.cx
    assert linear is not None
    x = cast(cx, o.x, cx.compute_dtype).rechunk({o.x.ndim - 1: -1})
    w = without_empty(cast(cx, linear.weight, cx.compute_dtype).rechunk({1: -1}), 0)
    rows = tuple(range(x.ndim - 1))
    named = {"targets": cut_like("targets", o.targets, x, rows)}
    for name in ("sample_weight", "where"):
        a = getattr(o, name)
        if a is not None:
            named[name] = spread_like(name, a, x, rows)
    o = o._replace(**named)
    call = call._replace(operands=o)
    present = named if options.indexed else {n: a for n, a in named.items() if n != "targets"}
    if options.reduction == "mean" and not (options.indexed and o.class_weight is None):
        weight = whole.weight(call) if options.indexed else _soft_weight(call, present)
        present = {**present, "live": whole.contributing(call, weight) != 0}
    x = _selected(call, x, present)
    z = _product(x, (*rows, len(rows)), w, (len(rows) + 1, len(rows)), (*rows, len(rows) + 1))
    if linear.bias is not None:
        z = z + cast(cx, linear.bias, cx.compute_dtype).rechunk((w.chunks[0],))
    return call._replace(operands=o._replace(x=z), linear=None), x, w, present


def _soft_weight(call: LossCall, present: dict[str, Array]) -> Array:
    """Return the mean's denominator for soft targets, a sum over chunks of rows and of classes."""
    o = call.operands
    t: Any = o.targets
    index = tuple(range(t.ndim))
    arrays = dict(present)
    args: list[Any] = []
    if o.class_weight is not None:
        arrays["class_weight"] = cut_like("class_weight", o.class_weight, t, index[-1:])
    for name, a in arrays.items():
        args += [a, index[-1:] if name == "class_weight" else index[:-1]]
    parts = da.blockwise(  # type: ignore[no-untyped-call]
        _weigh,
        index,
        t,
        index,
        *args,
        names=tuple(arrays),
        options=call.options,
        acc=call.cx.compute_dtype.name,
        adjust_chunks={index[-1]: 1},
        align_arrays=False,
        dtype=call.cx.sum_dtype,
        meta=np.empty((0,) * t.ndim, dtype=call.cx.sum_dtype),
    )
    return parts.sum()


def _weigh(t: Array, *chunks: Any, names: tuple[str, ...], options: Any, acc: str) -> Array:
    got = {"targets": t, **dict(zip(names, chunks, strict=True))}
    classes = t.shape[-1]
    steps.compare(got, options, classes, "features")
    xp = namespace(t)
    cx = context(xp.empty((0,), dtype=acc), xp)
    return prepare(steps.operands(got, t), options, cx, classes).row_weight[..., None]  # type: ignore[index]


def _selected(call: LossCall, x: Array, present: dict[str, Array]) -> Array:
    """Return features, or their gradient, with the rows that are absent 0."""
    index = tuple(range(x.ndim))
    args: list[Any] = []
    for a in present.values():
        args += [a, index[: a.ndim]]
    return da.blockwise(  # type: ignore[no-untyped-call]
        _select,
        index,
        x,
        index,
        *args,
        names=tuple(present),
        options=call.options,
        classes=call.classes,
        align_arrays=False,
        dtype=x.dtype,
        meta=x._meta,
    )


def _select(x: Array, *chunks: Any, names: tuple[str, ...], options: Any, classes: int) -> Array:
    got = {"x": x, **dict(zip(names, chunks, strict=True))}
    steps.compare(got, options, classes, "features")
    xp = namespace(x)
    o = Operands(x, got.get("targets"), None, got.get("sample_weight"), got.get("where"))
    keep = prepare(o, options, context(x, xp), classes).row_present
    if "live" in got:
        keep = got["live"] if keep is None else keep & got["live"]
    return x if keep is None else xp.where(xp.asarray(keep)[..., None], x, 0.0)


def _product(
    a: Array, a_index: tuple[int, ...], b: Array, b_index: tuple[int, ...], out: tuple[int, ...]
) -> Array:
    """Sum a·b over the axes that are not in `out`: chunk by chunk, then the chunks' sums."""
    over = tuple(i for i in a_index if i in b_index)
    axes = [[index.index(i) for i in over] for index in (a_index, b_index)]
    parts = da.blockwise(  # type: ignore[no-untyped-call]
        _piece,
        (*over, *out),
        a,
        a_index,
        b,
        b_index,
        axes=axes,
        align_arrays=False,
        adjust_chunks=dict.fromkeys(over, 1),
        dtype=a.dtype,
        meta=np.empty((0,) * (len(over) + len(out)), dtype=a.dtype),
    )
    return parts.sum(axis=tuple(range(len(over))))


def _piece(a: Array, b: Array, axes: Any) -> Array:
    xp = namespace(a)
    with quiet(context(a, xp)):
        return xp.tensordot(a, b, axes=axes)[(None,) * len(axes[0])]
