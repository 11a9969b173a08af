"""Linear cross-entropy on Dask: a graph over chunks of rows and of classes; nothing is computed."""

from __future__ import annotations

from typing import Any

from ..._arrays.context import context
from ..._arrays.inspect import Array, namespace
from ...core.call import LossCall
from ...core.options import Operands, Outputs
from ...core.targets import prepare
from ...core.token_stats import Tokens
from ..eager.linear import rounded
from . import backend
from . import graph as steps
from .chunks import added, blockwise, broadcast_like, rechunk_like, without_empty
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
    loss, logits_grads = backend.value_and_grad(on_logits, of_logits, cotangent)
    grads = {} if "targets" not in logits_grads else {"targets": logits_grads["targets"]}
    if parts:
        g = logits_grads["x"]
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
    row_arrays = {"targets": rechunk_like("targets", o.targets, x, row_axes)}
    by_list = o.indices is not None
    if by_list:
        for name in ("targets", "indices"):
            a = getattr(o, name).rechunk({o.x.ndim - 1: -1})
            row_arrays[name] = rechunk_like(name, a, x, row_axes)
    by_label = options.indexed or by_list
    for name in ("sample_weight", "where"):
        a = getattr(o, name)
        if a is not None:
            row_arrays[name] = broadcast_like(name, a, x, row_axes)
    o = o._replace(**row_arrays)
    call = call._replace(operands=o)
    present = {n: a for n, a in row_arrays.items() if by_label or n != "targets"}
    if options.reduction == "mean" and not (options.indexed and o.class_weight is None):
        weight = backend.weight(call) if by_label else _soft_weight(call, present)
        present = {**present, "any_row_counts": backend.contributing(call, weight) != 0}
    x = _selected(call, x, present)
    z = _product(x, (*rows, FEATURES), w, (CLASSES, FEATURES), (*rows, CLASSES))
    if linear.bias is not None:
        z = z + cx.cast(linear.bias, cx.compute_dtype).rechunk((w.chunks[0],))
    return call._replace(operands=o._replace(x=z), linear=None), x, w, present


def _soft_weight(call: LossCall, present: dict[str, Array]) -> Array:
    """Return the mean's denominator for soft targets, a sum over chunks of rows and of classes."""
    o = call.operands
    t: Any = o.targets
    rows = row_labels(t.ndim - 1)
    arrays = dict(present)
    args: list[Any] = []
    if o.class_weight is not None:
        class_axis = t.ndim - 1
        arrays["class_weight"] = rechunk_like("class_weight", o.class_weight, t, (class_axis,))
    for name, a in arrays.items():
        args += [a, (CLASSES,) if name == "class_weight" else rows]
    parts = blockwise(
        _weigh,
        (*rows, CLASSES),
        t,
        (*rows, CLASSES),
        *args,
        names=tuple(arrays),
        options=call.options,
        compute_dtype=call.cx.compute_dtype.name,
        adjust_chunks={CLASSES: 1},
        dtype=call.cx.sum_dtype,
    )
    return added(parts)


def _weigh(
    t: Array, *chunks: Any, names: tuple[str, ...], options: Any, compute_dtype: str
) -> Array:
    """Return what a chunk of soft targets, (*rows, classes), adds to row weights, (*rows, 1)."""
    got = {"targets": t, **dict(zip(names, chunks, strict=True))}
    classes = t.shape[-1]
    steps.compare(got, options, classes, "features")
    xp = namespace(t)
    cx = context(xp.empty((0,), dtype=compute_dtype), xp)
    weight: Any = prepare(steps.operands(got, t), options, cx, classes).row_weight
    return weight[..., None]  # soft targets always have one


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
    if "any_row_counts" in got:
        counts = got["any_row_counts"]
        present = counts if present is None else present & counts
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
