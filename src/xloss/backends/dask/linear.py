"""Linear cross-entropy on Dask: a graph over chunks of rows and of classes; nothing is computed."""

from __future__ import annotations

from typing import Any

import dask.array as da

from ..._arrays.context import context
from ..._arrays.inspect import Array, namespace
from ...core.call import LossCall
from ...core.options import Operands, Outputs
from ...core.targets import prepare
from ...core.token_stats import Tokens
from ..eager.linear import rounded
from . import backend
from . import graph as steps
from .call_graph import aligned_rows
from .chunks import added, blockwise, without_empty
from .labels import CLASSES, FEATURES, SLOTS, row_labels


@backend.by_rows
def value(call: LossCall) -> Array:
    """Return the loss, lazily."""
    return backend.value(_logits(call)[0])


@backend.by_rows
def tokens(call: LossCall, asked: Outputs) -> tuple[Array, Tokens]:
    """Return row losses and the numbers beside them, lazily."""
    made: tuple[Array, Tokens] = backend.tokens(_logits(call)[0], asked)
    return made


@backend.by_rows
def value_and_grad(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the closed-form gradients, lazily."""
    parts = [name for name in wanted if name != "targets"]
    on_logits, x, w, present = _logits(call)
    of_logits = ("x",) * bool(parts) + ("targets",) * ("targets" in wanted)
    loss, grads, any_row_counts = backend.gradients(on_logits, of_logits, cotangent)
    if parts:
        g = grads.pop("x")
        if call.operands.indices is not None:  # whose rows went through one task each
            g = g.rechunk({g.ndim - 1: w.chunks[0]})
        rows = row_labels(g.ndim - 1)
        if "x" in parts:
            grad_x = _product(g, (*rows, CLASSES), w, (CLASSES, FEATURES), (*rows, FEATURES))
            grads["x"] = _selected(call, grad_x, present)
        if "weight" in parts:
            grads["weight"] = _product(
                g, (*rows, CLASSES), x, (*rows, FEATURES), (CLASSES, FEATURES)
            )
        if "bias" in parts:
            row_axes = tuple(range(g.ndim - 1))
            grads["bias"] = added(g, row_axes, call.cx.sum_dtype)
    if any_row_counts is not None:  # where none does, features of NaN times a gradient of 0 are NaN
        grads = {name: da.where(any_row_counts, a, 0.0) for name, a in grads.items()}
    return loss, rounded(call, grads)


def _logits(call: LossCall) -> tuple[LossCall, Array, Array, dict[str, Array]]:
    """Return the call on logits: one chunk for each chunk of rows and of classes.

    Also the features and the weight in chunks that are whole along the features' axis, and the
    arrays that say which rows are present.
    """
    o, linear, options, cx = call.operands, call.linear, call.options, call.cx
    assert linear is not None
    x = cx.cast(o.x, cx.compute_dtype).rechunk({o.x.ndim - 1: -1})
    w = without_empty(cx.cast(linear.weight, cx.compute_dtype).rechunk({1: -1}), 0)
    row_axes, rows = tuple(range(x.ndim - 1)), row_labels(x.ndim - 1)
    o = aligned_rows(o, x, row_axes)
    call = call._replace(operands=o)
    by_label = options.indexed or o.indices is not None
    names = ("sample_weight", "where", *(("targets", "indices") if by_label else ()))
    present = {name: a for name in names if (a := getattr(o, name)) is not None}
    x = _selected(call, x, present)
    z = _product(x, (*rows, FEATURES), w, (CLASSES, FEATURES), (*rows, CLASSES))
    if linear.bias is not None:
        z = z + cx.cast(linear.bias, cx.compute_dtype).rechunk((w.chunks[0],))
    return call._replace(operands=o._replace(x=z), linear=None), x, w, present


def _selected(call: LossCall, x: Array, present: dict[str, Array]) -> Array:
    """Return features, or their gradient, with 0 in the rows that are absent."""
    index = (*row_labels(x.ndim - 1), FEATURES)
    args: list[Any] = []
    for a in present.values():
        args += [a, (*index[:-1], SLOTS) if a.ndim == x.ndim else index[: a.ndim]]
    return blockwise(
        _select,
        index,
        x,
        index,
        *args,
        concatenate=True,
        names=tuple(present),
        options=call.options,
        classes=call.classes,
        dtype=x.dtype,
    )


def _select(x: Array, *chunks: Any, names: tuple[str, ...], options: Any, classes: int) -> Array:
    """Put 0 into the absent rows of a chunk of features, (*rows, features)."""
    got = {"x": x, **dict(zip(names, chunks, strict=True))}
    steps.compare(got, options, classes, "features")
    xp = namespace(x)
    rows = got.get("sample_weight"), got.get("where")
    o = Operands(x, got.get("targets"), None, *rows, indices=got.get("indices"))
    present = prepare(o, options, context(x, xp), classes).row_present
    return x if present is None else xp.where(xp.asarray(present)[..., None], x, 0.0)


def _product(
    a: Array,
    a_labels: tuple[str, ...],
    b: Array,
    b_labels: tuple[str, ...],
    out: tuple[str, ...],
) -> Array:
    """Sum a·b over the axes that both have and `out` has not: in each chunk, then over chunks."""
    summed = tuple(label for label in a_labels if label in b_labels)
    axes = [[labels.index(label) for label in summed] for labels in (a_labels, b_labels)]
    parts = blockwise(
        _chunk_product,
        (*summed, *out),
        a,
        a_labels,
        b,
        b_labels,
        axes=axes,
        adjust_chunks=dict.fromkeys(summed, 1),
        dtype=a.dtype,
    )
    return added(parts, tuple(range(len(summed))))


def _chunk_product(a: Array, b: Array, axes: Any) -> Array:
    """Return the product of two chunks, with an axis of length 1 for each that was summed."""
    xp = namespace(a)
    with context(a, xp).quiet():
        return xp.tensordot(a, b, axes=axes)[(None,) * len(axes[0])]
