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

from .._xp import INTEGERS, Array, Context, cast, context, dtype_name, take
from ..core.reduce import exact_sum
from ..core.rows import evaluate, formula_gradients
from ..core.spec import NO_UPSTREAM, Need, Operands, Result, Spec, Upstream
from ..core.targets import safe_labels
from ..engines import cpu, generic
from . import jax_lowering
from .jax_softmax import softmax_parts

SPLIT = "on JAX it takes whole rows, and here the classes are spread over devices"


class Form(NamedTuple):
    """What a call of the primitive is specialised on: options, arrays given, results wanted."""

    spec: Spec
    class_weight: bool  # one a class
    label_weight: bool  # one a row instead, its label's
    where: bool
    sample_weight: bool
    upstream: bool
    saved: bool
    need: Need


def run(
    o: Operands,
    spec: Spec,
    cx: Context,
    classes: int,
    need: Need,
    up: Upstream = NO_UPSTREAM,
    saved: tuple[Array, ...] | None = None,
) -> Result:
    """Compute what is needed of a whole call, as an engine does."""
    rest = Need(grad_targets=need.grad_targets, weight=need.weight)
    others = generic.run(o, spec, cx, classes, rest, up) if any(rest) else Result()
    mine = Need(rows=need.rows or need.total, grad=need.grad, stats=need.stats)
    if not any(mine):
        return others
    if 0 in o.x.shape:
        return generic.run(o, spec, cx, classes, need, up)
    if up.live is not None:  # a row that is absent has the gradient 0
        live = jnp.broadcast_to(up.live, o.x.shape[:-1])
        o = o._replace(where=live if o.where is None else o.where & live)
    row = None
    if need.grad and not (isinstance(up.row, float) and up.row == 1.0):
        row = jnp.broadcast_to(jnp.asarray(up.row, cx.acc), o.x.shape[:-1])
    form, arrays = _formed(o, spec, cx, row, saved, mine)
    made = list(_call(form, arrays))
    rows = made.pop(0) if mine.rows else None
    stats = (made.pop(0), made.pop(0)) if mine.stats else None
    return others._replace(
        rows=rows if need.rows else None,
        total=exact_sum(cx, rows) if need.total and rows is not None else None,
        stats=stats,
        grad=made.pop(0) if mine.grad else None,
    )


cpu.TRACED["jax"] = run


def keeps_stats(spec: Spec, classes: int) -> bool:
    """Tell whether a gradient is one pass where an earlier one has left the rows' statistics."""
    return classes > cpu.RECOMPUTED and spec.indexed and not spec.label_smoothing


def tangent(
    v: Array, o: Operands, spec: Spec, cx: Context, saved: tuple[Array, ...] | None
) -> Array:
    """Return Σ g v along the classes, g the gradient of each row's loss to its logits."""
    form, arrays = _formed(o, spec, cx, None, saved, Need(grad=True))
    (made,) = tangent_p.bind(v, *_alike([v, *arrays])[1:], form=form)
    return made


def _formed(
    o: Operands, spec: Spec, cx: Context, up: Array | None, saved: Any, need: Need
) -> tuple[Form, list[Array]]:
    """Return what a call is specialised on, and its arrays as the handler takes them."""
    ignored = spec.ignore_index
    targets: Any = o.targets
    if spec.indexed:
        low, high = INTEGERS[dtype_name(targets.dtype)]
        if ignored is not None and not low <= ignored <= high:
            ignored = None  # the dtype cannot hold it
        # An unsigned value beyond the index dtype turns negative, as the ignored one does.
        targets, most = cast(cx, targets, cx.index), INTEGERS[dtype_name(cx.index)][1]
        if ignored is not None and ignored > most:
            ignored -= 2 * (most + 1)
    else:
        targets = cast(cx, targets, cx.acc)
    numbers = (
        None if a is None else cast(cx, a, cx.acc) for a in (o.class_weight, o.sample_weight)
    )
    class_weight, sample_weight = numbers
    # What makes no other program does not make another call either.
    spec = spec._replace(
        ignore_index=ignored if spec.indexed else None, reduction="none", validate="auto"
    )
    given = (class_weight, None, o.where, sample_weight, up)
    there = [a is not None for a in (*given, saved)]
    form = Form._make((spec, *there, need))
    return form, [o.x, targets, *(a for a in (*given, *(saved or ())) if a is not None)]


def _operands(form: Form, arrays: Any) -> tuple[Operands, Any]:
    """Name the arrays of a call; return the operands and the upstream's."""
    left = list(arrays[2:])
    named = [left.pop(0) if there else None for there in form[1:6]]
    class_weight, _, where, sample_weight, up = named
    return Operands(arrays[0], arrays[1], class_weight, sample_weight, where), up


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
    return _made(form, *arrays) if form.need.grad else rows_p.bind(*_alike(arrays), form=form)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _made(form: Form, *arrays: Array) -> Any:
    """Return what a call makes, the gradient last."""
    return tuple(rows_p.bind(*_alike(list(arrays)), form=form))


@_made.defjvp
def _made_jvp(form: Form, primals: Any, tangents: Any) -> Any:
    """Differentiate the formula, which an autodiff can follow to any order."""
    moved = list(jax.jvp(partial(_gradient, form), primals, tangents)[1:])
    if form.need.rows:
        o, _ = _operands(form, primals)
        cx = context(o.x, jnp)
        parts = zip(_slopes(o, form.spec, cx, NO_UPSTREAM), tangents[:2], strict=True)
        terms = [g * cast(cx, v, cx.acc) for g, v in parts if g is not None]
        moved.insert(0, sum(jnp.sum(term, axis=-1) for term in terms))
    return _made(form, *primals), tuple(moved)


def _gradient(form: Form, *arrays: Array) -> Array:
    """Return the gradient by plain operations."""
    o, up = _operands(form, arrays)
    cx = context(o.x, jnp)
    slope = _slopes(o, form.spec, cx, NO_UPSTREAM if up is None else Upstream(up))[0]
    return cast(cx, slope, o.x.dtype)


def _slopes(o: Operands, spec: Spec, cx: Context, up: Upstream) -> tuple[Array, Array | None]:
    """Return the gradients to logits and soft targets by plain operations, not rounded."""
    return formula_gradients(o, spec, cx, o.x.shape[-1], up, lambda z, _: softmax_parts(z))


def _plain(*arrays: Array, form: Form) -> Any:
    """Return what a call makes by core's own arithmetic."""
    o, up = _operands(form, arrays)
    cx = context(o.x, jnp)
    need = form.need._replace(stats=False)
    slope = NO_UPSTREAM if up is None else Upstream(up)
    made = evaluate(o, form.spec, cx, o.x.shape[-1], need, slope)
    rows = o.x.shape[:-1]
    out = [made.rows] if need.rows else []
    if form.need.stats:  # read by nobody: there the gradient is found anew
        out += [jnp.zeros(rows, cx.acc), jnp.zeros((*rows, 2), jnp.uint32)]
    return (*out, made.grad) if need.grad else tuple(out)


def _by_label(*arrays: Array, form: Form) -> Any:
    """Call with the class weight of each row's label: rows may be spread, classes may not."""
    o, _ = _operands(form, arrays)
    cx = context(o.x, jnp)
    labels = safe_labels(o.targets, o.x.shape[-1], form.spec.ignore_index, cx)[0]
    weights = take(cx, o.class_weight, labels)
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
    out = [kind(rows, acc)] if form.need.rows else []
    if form.need.stats:
        out += [kind(rows, acc), kind((*rows, 2), jnp.dtype("uint32"))]
    return [*out, x.update(weak_type=False)] if form.need.grad else out


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
    g = _slopes(o, form.spec, cx, NO_UPSTREAM)[0]
    # Linear in the tangent, as transposition needs; 0·inf selected away beforehand.
    return (jnp.sum(cast(cx, g, cx.acc) * cast(cx, v, cx.acc), axis=-1),)


def _slope_jvp(primals: Any, tangents: Any, *, form: Form) -> Any:
    zeros: Any = ad.instantiate_zeros
    full = [zeros(t) for t in tangents]
    return jax.jvp(partial(_slope, form=form), tuple(primals), tuple(full))


def _slope_transposed(up: Any, v: Any, *arrays: Any, form: Form) -> Any:
    """Return the gradient: the engine's, from an upstream that nothing has rounded."""
    none = [None] * len(arrays)
    if type(up[0]) is ad.Zero:
        return [ad.Zero(v.aval), *none]
    left = list(arrays)
    at = 2 + sum(form[1:5])
    given = form._replace(upstream=True, need=Need(grad=True))
    (made,) = _call(given, [*left[:at], up[0], *left[at:]])
    return [made, *none]


def _slope_batched(arrays: Any, dims: Any, *, form: Form) -> Any:
    class_weight = form.class_weight and dims[3] is not None
    if class_weight:
        made = jax.vmap(partial(_slope, form=form), in_axes=dims)(*arrays)
        return made, [0] * len(made)
    moved = _in_front(arrays, dims, 3 if form.class_weight else None)
    return tangent_p.bind(*moved, form=form), [0]


def _slope_kinds(v: Any, x: Any, *arrays: Any, form: Form) -> Any:
    return _kinds(x, form=form._replace(need=Need(rows=True)))


tangent_p: Any = Primitive("xloss_tangent")
tangent_p.multiple_results = True
tangent_p.def_abstract_eval(_slope_kinds)
tangent_p.def_impl(lambda *arrays, form: _compiled(tangent_p, form)(*arrays))
ad.primitive_jvps[tangent_p] = _slope_jvp
ad.primitive_transposes[tangent_p] = _slope_transposed
batching.primitive_batchers[tangent_p] = _slope_batched
mlir.register_lowering(tangent_p, mlir.lower_fun(_slope, multiple_results=True))
