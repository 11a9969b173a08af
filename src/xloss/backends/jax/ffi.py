"""JAX on the host: rows and gradients by the compiled engine, as a call of XLA's into it.

One primitive computes, so that each transformation has its rule: mapped rows are rows, rows that
are spread over devices stay where they are, and a program for another device, or for export, holds
core's formula instead. A second one stands for the derivative, linear in its first argument, whose
transpose is the first primitive's gradient.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from ..._arrays.context import Context, context
from ..._arrays.inspect import INTEGERS, Array, dtype_name
from ...core.family import evaluate
from ...core.formula import formula_gradients
from ...core.options import UNIT_COTANGENT, Cotangent, Operands, Options, Outcome, Outputs
from ...core.reduce import exact_sum
from ...core.targets import safe_labels
from ...engines import generic
from ...engines.cpu import engine as cpu
from . import lowering as jax_lowering
from .softmax_rules import softmax_parts

SPLIT = "on JAX it takes whole rows, and here the classes are spread over devices"


class Form(NamedTuple):
    """What a call of the primitive is specialised on: options, arrays given, results wanted."""

    options: Options
    class_weight: bool  # one a class
    label_weight: bool  # one a row instead, its label's
    where: bool
    sample_weight: bool
    cotangent: bool
    saved: bool
    outputs: Outputs


def run(
    o: Operands,
    options: Options,
    cx: Context,
    classes: int,
    outputs: Outputs,
    cotangent: Cotangent = UNIT_COTANGENT,
    saved: tuple[Array, ...] | None = None,
) -> Outcome:
    """Compute what is needed of a whole call, as an engine does."""
    rest = Outputs(grad_targets=outputs.grad_targets, weight=outputs.weight)
    others = generic.run(o, options, cx, classes, rest, cotangent) if any(rest) else Outcome()
    mine = Outputs(rows=outputs.rows or outputs.total, grad=outputs.grad, stats=outputs.stats)
    if not any(mine):
        return others
    if 0 in o.x.shape:
        return generic.run(o, options, cx, classes, outputs, cotangent)
    if cotangent.any_row_counts is not None:  # a row that is absent has the gradient 0
        live = jnp.broadcast_to(cotangent.any_row_counts, o.x.shape[:-1])
        o = o._replace(where=live if o.where is None else o.where & live)
    row = None
    if outputs.grad and not (isinstance(cotangent.row_loss, float) and cotangent.row_loss == 1.0):
        row = jnp.broadcast_to(jnp.asarray(cotangent.row_loss, cx.compute_dtype), o.x.shape[:-1])
    form, arrays = _formed(o, options, cx, row, saved, mine)
    made = list(_call(form, arrays))
    rows = made.pop(0) if mine.rows else None
    stats = (made.pop(0), made.pop(0)) if mine.stats else None
    return others._replace(
        rows=rows if outputs.rows else None,
        total=exact_sum(cx, rows) if outputs.total and rows is not None else None,
        stats=stats,
        grad=made.pop(0) if mine.grad else None,
    )


cpu.TRACED["jax"] = run


def keeps_stats(options: Options, classes: int) -> bool:
    """Tell whether a gradient is one pass where an earlier one has left the rows' statistics."""
    return classes >= cpu.save_stats_from and options.indexed and not options.label_smoothing


def tangent(
    v: Array, o: Operands, options: Options, cx: Context, saved: tuple[Array, ...] | None
) -> Array:
    """Return Σ g v along the classes, g the gradient of each row's loss to its logits."""
    form, arrays = _formed(o, options, cx, None, saved, Outputs(grad=True))
    (made,) = tangent_p.bind(v, *_alike([v, *arrays])[1:], form=form)
    return made


def _formed(
    o: Operands,
    options: Options,
    cx: Context,
    cotangent: Array | None,
    saved: Any,
    outputs: Outputs,
) -> tuple[Form, list[Array]]:
    """Return what a call is specialised on, and its arrays as the handler takes them."""
    ignored = options.ignore_index
    targets: Any = o.targets
    if options.indexed:
        low, high = INTEGERS[dtype_name(targets.dtype)]
        if ignored is not None and not low <= ignored <= high:
            ignored = None  # the dtype cannot hold it
        # An unsigned value beyond the index dtype turns negative, as the ignored one does.
        targets, most = cx.cast(targets, cx.label_dtype), INTEGERS[dtype_name(cx.label_dtype)][1]
        if ignored is not None and ignored > most:
            ignored -= 2 * (most + 1)
    else:
        targets = cx.cast(targets, cx.compute_dtype)
    numbers = (
        None if a is None else cx.cast(a, cx.compute_dtype)
        for a in (o.class_weight, o.sample_weight)
    )
    class_weight, sample_weight = numbers
    # What makes no other program does not make another call either.
    options = options._replace(
        ignore_index=ignored if options.indexed else None, reduction="none", validate="auto"
    )
    given = (class_weight, None, o.where, sample_weight, cotangent)
    there = [a is not None for a in (*given, saved)]
    form = Form._make((options, *there, outputs))
    return form, [o.x, targets, *(a for a in (*given, *(saved or ())) if a is not None)]


def _operands(form: Form, arrays: Any) -> tuple[Operands, Any]:
    """Name the arrays of a call; return the operands and the cotangent of the rows."""
    left = list(arrays[2:])
    named = [left.pop(0) if there else None for there in form[1:6]]
    class_weight, _, where, sample_weight, cotangent = named
    return Operands(arrays[0], arrays[1], class_weight, sample_weight, where), cotangent


def _alike(arrays: list[Array]) -> list[Array]:
    """Say of all arrays that they vary along the axes along which one of them does."""
    found = [_varying(a) for a in arrays]
    every = frozenset[str]().union(*found)
    if not every:
        return arrays
    return [
        jax.lax.pcast(a, tuple(every - own), to="varying") if every - own else a
        for a, own in zip(arrays, found, strict=True)
    ]


def _varying(x: Array) -> frozenset[str]:
    """Return the axes of a shard_map along which it knows an array to differ."""
    kind: Any = jax.typeof(x)
    found = getattr(kind, "manual_axis_type", None)
    return frozenset(kind.vma if found is None else found.varying)


def _call(form: Form, arrays: list[Array]) -> Any:
    return _made(form, *arrays) if form.outputs.grad else rows_p.bind(*_alike(arrays), form=form)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _made(form: Form, *arrays: Array) -> Any:
    """Return what a call makes, the gradient last."""
    return tuple(rows_p.bind(*_alike(list(arrays)), form=form))


@_made.defjvp
def _made_jvp(form: Form, primals: Any, tangents: Any) -> Any:
    """Differentiate the formula, which an autodiff can follow to any order."""
    moved = list(jax.jvp(partial(_gradient, form), primals, tangents)[1:])
    if form.outputs.rows:
        o, _ = _operands(form, primals)
        cx = context(o.x, jnp)
        parts = zip(_slopes(o, form.options, cx, UNIT_COTANGENT), tangents[:2], strict=True)
        terms = [g * cx.cast(v, cx.compute_dtype) for g, v in parts if g is not None]
        moved.insert(0, sum(jnp.sum(term, axis=-1) for term in terms))
    return _made(form, *primals), tuple(moved)


def _gradient(form: Form, *arrays: Array) -> Array:
    """Return the gradient by plain operations."""
    o, cotangent = _operands(form, arrays)
    cx = context(o.x, jnp)
    slope = _slopes(
        o, form.options, cx, UNIT_COTANGENT if cotangent is None else Cotangent(cotangent)
    )[0]
    return cx.cast(slope, o.x.dtype)


def _slopes(
    o: Operands, options: Options, cx: Context, cotangent: Cotangent
) -> tuple[Array, Array | None]:
    """Return the gradients to logits and soft targets by plain operations, not rounded."""
    return formula_gradients(
        o, options, cx, o.x.shape[-1], cotangent, lambda z, _: softmax_parts(z)
    )


def _plain(*arrays: Array, form: Form) -> Any:
    """Return what a call makes by core's own arithmetic."""
    o, cotangent = _operands(form, arrays)
    cx = context(o.x, jnp)
    outputs = form.outputs._replace(stats=False)
    slope = UNIT_COTANGENT if cotangent is None else Cotangent(cotangent)
    made = evaluate(o, form.options, cx, o.x.shape[-1], outputs, slope)
    rows = o.x.shape[:-1]
    out = [made.rows] if outputs.rows else []
    if form.outputs.stats:  # read by nobody: there the gradient is found anew
        out += [jnp.zeros(rows, cx.compute_dtype), jnp.zeros((*rows, 2), jnp.uint32)]
    return (*out, made.grad) if outputs.grad else tuple(out)


def _by_label(*arrays: Array, form: Form) -> Any:
    """Call with the class weight of each row's label: rows may be spread, classes may not."""
    o, _ = _operands(form, arrays)
    cx = context(o.x, jnp)
    labels = safe_labels(o.targets, o.x.shape[-1], form.options.ignore_index, cx)[0]
    weights = cx.take(o.class_weight, labels)
    form = form._replace(class_weight=False, label_weight=True)
    return rows_p.bind(*arrays[:2], weights, *arrays[3:], form=form)


def _kinds(x: Any, *_: Any, form: Form) -> list[Any]:
    """Return the types of what a call makes."""
    acc = jnp.dtype("float64" if x.dtype == jnp.float64 else "float32")

    def kind(shape: tuple[int, ...], dtype: Any) -> Any:
        spread = tuple(x.sharding.spec)[: len(x.shape) - 1]
        spread = (*spread, *(None,) * (len(shape) - len(spread)))
        spec = jax.sharding.PartitionSpec(*spread)  # type: ignore[no-untyped-call]
        return x.update(
            shape=shape, dtype=dtype, weak_type=False, sharding=x.sharding.update(spec=spec)
        )

    rows = x.shape[:-1]
    out = [kind(rows, acc)] if form.outputs.rows else []
    if form.outputs.stats:
        out += [kind(rows, acc), kind((*rows, 2), jnp.dtype("uint32"))]
    return [*out, x.update(weak_type=False)] if form.outputs.grad else out


def _batched(arrays: Any, dims: Any, *, form: Form) -> Any:
    """Take an axis that is mapped over as one more axis of rows."""
    class_weight = form.class_weight and dims[2] is not None
    if class_weight:  # of each mapped call its own: the formula takes them
        made = jax.vmap(partial(_plain, form=form), in_axes=dims)(*arrays)
        return made, [0] * len(made)
    moved = _in_front(arrays, dims, 2 if form.class_weight else None)
    made = rows_p.bind(*moved, form=form)
    return made, [0] * len(made)


def _in_front(arrays: Any, dims: Any, shared: int | None) -> list[Array]:
    """Move the mapped axis of every array to the front; `shared` is one that has no rows."""
    size = next(a.shape[d] for a, d in zip(arrays, dims, strict=True) if d is not None)
    moved = []
    for i, (a, d) in enumerate(zip(arrays, dims, strict=True)):
        if i != shared:
            a = jnp.broadcast_to(a, (size, *a.shape)) if d is None else jnp.moveaxis(a, d, 0)
        moved.append(a)
    return moved


rows_p: Any = Primitive("xloss_rows")
rows_p.multiple_results = True
rows_p.def_abstract_eval(_kinds)
rows_p.def_impl(lambda *arrays, form: _compiled(rows_p, form)(*arrays))
batching.primitive_batchers[rows_p] = _batched
_formula = mlir.lower_fun(_plain, multiple_results=True)
_weighed = mlir.lower_fun(_by_label, multiple_results=True)
mlir.register_lowering(rows_p, partial(jax_lowering.elsewhere, _formula))
mlir.register_lowering(rows_p, partial(jax_lowering.host, _formula, _weighed), platform="cpu")


def _compiled(primitive: Any, form: Form) -> Any:
    return jax.jit(lambda *arrays: primitive.bind(*arrays, form=form))


def _slope(v: Array, *arrays: Array, form: Form) -> Any:
    """Return Σ g v by plain operations."""
    o, _ = _operands(form, arrays)
    cx = context(o.x, jnp)
    g = _slopes(o, form.options, cx, UNIT_COTANGENT)[0]
    # Linear in the tangent, as transposition needs; 0·inf selected away beforehand.
    return (jnp.sum(cx.cast(g, cx.compute_dtype) * cx.cast(v, cx.compute_dtype), axis=-1),)


def _slope_jvp(primals: Any, tangents: Any, *, form: Form) -> Any:
    zeros: Any = ad.instantiate_zeros
    full = [zeros(t) for t in tangents]
    return jax.jvp(partial(_slope, form=form), tuple(primals), tuple(full))


def _slope_transposed(cotangent: Any, v: Any, *arrays: Any, form: Form) -> Any:
    """Return the engine's gradient, from a cotangent that nothing has rounded."""
    none = [None] * len(arrays)
    if type(cotangent[0]) is ad.Zero:
        return [ad.Zero(v.aval), *none]
    left = list(arrays)
    at = 2 + sum(form[1:5])
    given = form._replace(cotangent=True, outputs=Outputs(grad=True))
    (made,) = _call(given, [*left[:at], cotangent[0], *left[at:]])
    return [made, *none]


def _slope_batched(arrays: Any, dims: Any, *, form: Form) -> Any:
    class_weight = form.class_weight and dims[3] is not None
    if class_weight:
        made = jax.vmap(partial(_slope, form=form), in_axes=dims)(*arrays)
        return made, [0] * len(made)
    moved = _in_front(arrays, dims, 3 if form.class_weight else None)
    return tangent_p.bind(*moved, form=form), [0]


def _slope_kinds(v: Any, x: Any, *arrays: Any, form: Form) -> Any:
    return _kinds(x, form=form._replace(outputs=Outputs(rows=True)))


tangent_p: Any = Primitive("xloss_tangent")
tangent_p.multiple_results = True
tangent_p.def_abstract_eval(_slope_kinds)
tangent_p.def_impl(lambda *arrays, form: _compiled(tangent_p, form)(*arrays))
ad.primitive_jvps[tangent_p] = _slope_jvp
ad.primitive_transposes[tangent_p] = _slope_transposed
batching.primitive_batchers[tangent_p] = _slope_batched
mlir.register_lowering(tangent_p, mlir.lower_fun(_slope, multiple_results=True))
