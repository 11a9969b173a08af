"""JAX on the host: rows and gradients by the compiled engine, as a call of XLA's into it.

One primitive computes, so that each transformation has its rule: mapped rows are rows, rows that
are spread over devices stay where they are, and a program for another device, or for export, holds
core's formula instead. A second one stands for the derivative, linear in its first argument, whose
transpose is the first primitive's gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from ..._arrays.inspect import INTEGERS, Array, dtype_name
from ...core.call import LossCall
from ...core.options import UNIT_COTANGENT, Cotangent, Outcome, Outputs, Saved
from ...core.reduce import exact_sum
from ...core.targets import prepare
from ...engines import generic
from ...engines.cpu import engine as cpu
from . import ffi_formula as formula
from . import lowering as jax_lowering
from .ffi_formula import Form
from .mesh_axis import varying

SPLIT = "on JAX it takes whole rows, and here the classes are spread over devices"


def run(
    call: LossCall, outputs: Outputs, cotangent: Cotangent = UNIT_COTANGENT, saved: Saved = None
) -> Outcome:
    """Compute what is needed of a whole call, as an engine does."""
    o, cx = call.operands, call.cx
    rest = Outputs(grad_targets=outputs.grad_targets, weight=outputs.weight)
    others = generic.run(call, rest, cotangent) if any(rest) else Outcome()
    mine = Outputs(rows=outputs.rows or outputs.total, grad=outputs.grad, stats=outputs.stats)
    if not any(mine):
        return others
    if 0 in o.x.shape:
        return generic.run(call, outputs, cotangent)
    if cotangent.any_row_counts is not None:  # a row that is absent has the gradient 0
        live = jnp.broadcast_to(cotangent.any_row_counts, o.x.shape[:-1])
        call = call.of(o._replace(where=live if o.where is None else o.where & live))
    row = None
    if outputs.grad and not (isinstance(cotangent.row_loss, float) and cotangent.row_loss == 1.0):
        row = jnp.broadcast_to(jnp.asarray(cotangent.row_loss, cx.compute_dtype), o.x.shape[:-1])
    form, arrays = _formed(call, row, saved, mine)
    made = list(rows_p.bind(*_alike(arrays), form=form))
    rows = made.pop(0) if mine.rows else None
    stats = (made.pop(0), made.pop(0)) if mine.stats else None
    return others._replace(
        rows=rows if outputs.rows else None,
        total=exact_sum(cx, rows) if outputs.total and rows is not None else None,
        stats=stats,
        grad=made.pop(0) if mine.grad else None,
    )


cpu.TRACED["jax"] = run


def keeps_stats(call: LossCall) -> bool:
    """Tell whether a gradient is one pass where an earlier one has left the rows' statistics."""
    options = call.options
    return call.classes >= cpu.save_stats_from and options.indexed and not options.label_smoothing


def tangent(v: Array, call: LossCall, saved: Saved) -> Array:
    """Return Σ g v along the classes, g the gradient of each row's loss to its logits."""
    form, arrays = _formed(call, None, saved, Outputs(grad=True))
    (made,) = tangent_p.bind(v, *_alike([v, *arrays])[1:], form=form)
    return made


def _formed(
    call: LossCall, cotangent: Array | None, saved: Any, outputs: Outputs
) -> tuple[Form, list[Array]]:
    """Return what a call is specialised on, and its arrays, labels in the dtype of indices."""
    o, options, cx = call.operands, call.options, call.cx
    ignored = options.ignore_index if options.indexed else None
    targets: Any = o.targets
    if options.indexed:
        low, high = INTEGERS[dtype_name(targets.dtype)]
        if ignored is not None and not low <= ignored <= high:
            ignored = None  # the dtype cannot hold it
        # An unsigned value beyond the index dtype turns negative, as the ignored one does.
        targets, most = cx.cast(targets, cx.label_dtype), INTEGERS[dtype_name(cx.label_dtype)][1]
        if ignored is not None and ignored > most:
            ignored -= 2 * (most + 1)
    # What makes no other program does not make another call either.
    options = options._replace(ignore_index=ignored, reduction="none", validate="auto")
    given = (o.class_weight, o.where, o.sample_weight, cotangent)
    there = [a is not None for a in (*given, saved)]
    form = Form._make((options, *there, outputs))
    return form, [o.x, targets, *(a for a in (*given, *(saved or ())) if a is not None)]


def _alike(arrays: list[Array]) -> list[Array]:
    """Say of all arrays that they vary along the axes along which one of them does."""
    found = list(map(varying, arrays))
    every = frozenset[str]().union(*found)
    if not every:
        return arrays
    return [
        jax.lax.pcast(a, tuple(every - own), to="varying") if every - own else a
        for a, own in zip(arrays, found, strict=True)
    ]


def _rows_jvp(primals: Any, tangents: Any, *, form: Form) -> Any:
    """Differentiate the formula, which an autodiff can follow to any order."""
    moving, moved = tuple(map(ad.instantiate_zeros, tangents)), []
    if form.outputs.rows:
        call, _ = formula.described(form, primals)
        cx = call.cx
        parts = zip(formula.slopes(call, UNIT_COTANGENT), moving[:2], strict=True)
        terms = [g * cx.cast(v, cx.compute_dtype) for g, v in parts if g is not None]
        moved.append(sum(jnp.sum(term, axis=-1) for term in terms))
    if form.outputs.grad:
        moved.append(jax.jvp(partial(formula.gradient, form), tuple(primals), moving)[1])
    return rows_p.bind(*primals, form=form), moved


def _prepared(*arrays: Array, form: Form) -> Any:
    """Call the kernels with weights as they read them; labels the handler looks at itself."""
    call, cotangent = formula.described(form, arrays)
    o, cx = call.operands, call.cx
    t = prepare(o, form.options, cx, call.classes)
    rows = prepare(o._replace(targets=None), form.options, cx, call.classes)
    up = None if isinstance(cotangent.row_loss, float) else cotangent.row_loss
    numbers = {"sample_weight": rows.sample_weight, "label_weight": t.label_weight, "cotangent": up}
    with jax.enable_x64(True):
        given = {name: cx.cast(a, jnp.float64) for name, a in numbers.items() if a is not None}
    others = {"soft": t.probs, "row_present": rows.row_present}
    if form.options.indexed:
        others["labels"] = o.targets
    if jax_lowering.needs_classes(form):  # of labels alone rows may be spread, classes may not
        others["class_weight"] = t.class_weight
    given |= {name: a for name, a in others.items() if a is not None}
    if form.saved:
        given["maxima"], given["tail_sums"] = arrays[-2:]
    inputs = _alike([o.x, *given.values()])
    return kernel_p.bind(*inputs, form=form, fields=("logits", *given))


def _in_front(arrays: Any, dims: Any, shared: int | None) -> list[Array]:
    """Move the mapped axis of every array to the front; `shared` is one that has no rows."""
    size = next(a.shape[d] for a, d in zip(arrays, dims, strict=True) if d is not None)
    moved = []
    for i, (a, d) in enumerate(zip(arrays, dims, strict=True)):
        if i != shared:
            a = jnp.broadcast_to(a, (size, *a.shape)) if d is None else jnp.moveaxis(a, d, 0)
        moved.append(a)
    return moved


def _alone(primitive: Any) -> Callable[..., Any]:
    """Return what a primitive does where no program around it is compiled: one of its own.

    Within `jax.disable_jit` too: without a program the primitive would ask this function again,
    without end.
    """
    program = jax.jit(primitive.bind, static_argnames="form")

    def run(*arrays: Any, form: Form) -> Any:
        with jax.disable_jit(False):
            return program(*arrays, form=form)

    return run


def _primitive(name: str, plain: Any, kinds: Any, class_weight_at: int) -> Any:
    """Make a primitive of a formula, whose rows are one axis more where a call is mapped over."""
    made: Any = Primitive(name)
    made.multiple_results = True
    made.def_abstract_eval(kinds)

    def batched(arrays: Any, dims: Any, *, form: Form) -> Any:
        if form.class_weight and dims[class_weight_at] is not None:
            # Each of the mapped calls has a class weight of its own: the formula takes them.
            out = jax.vmap(partial(plain, form=form), in_axes=dims)(*arrays)
        else:
            shared = class_weight_at if form.class_weight else None
            out = made.bind(*_in_front(arrays, dims, shared), form=form)
        return out, [0] * len(out)

    made.def_impl(_alone(made))
    batching.primitive_batchers[made] = batched
    return made


rows_p = _primitive("xloss_rows", formula.rows, formula.row_kinds, 2)
ad.primitive_jvps[rows_p] = _rows_jvp
_by_formula = mlir.lower_fun(formula.rows, multiple_results=True)
_by_kernel = mlir.lower_fun(_prepared, multiple_results=True)
kernel_p: Any = Primitive("xloss_kernel")  # within a program that is lowered, and nowhere else
kernel_p.multiple_results = True
kernel_p.def_abstract_eval(lambda x, *_, form, fields: formula.row_kinds(x, form=form))
mlir.register_lowering(kernel_p, jax_lowering.kernel)
mlir.register_lowering(
    rows_p, partial(jax_lowering.computed, _by_formula, "this program is not for the CPU")
)
mlir.register_lowering(rows_p, partial(jax_lowering.host, _by_formula, _by_kernel), platform="cpu")


def _slope_jvp(primals: Any, tangents: Any, *, form: Form) -> Any:
    zeros: Any = ad.instantiate_zeros
    full = [zeros(t) for t in tangents]
    return jax.jvp(partial(formula.tangent, form=form), tuple(primals), tuple(full))


def _slope_transposed(cotangent: Any, v: Any, *arrays: Any, form: Form) -> Any:
    """Return the engine's gradient, from a cotangent that nothing has rounded."""
    none = [None] * len(arrays)
    if type(cotangent[0]) is ad.Zero:
        return [ad.Zero(v.aval), *none]
    left = list(arrays)
    at = 2 + sum(form[1:4])
    given = form._replace(cotangent=True, outputs=Outputs(grad=True))
    made = rows_p.bind(*_alike([*left[:at], cotangent[0], *left[at:]]), form=given)
    return [*made, *none]


tangent_p = _primitive("xloss_tangent", formula.tangent, formula.tangent_kinds, 3)
ad.primitive_jvps[tangent_p] = _slope_jvp
ad.primitive_transposes[tangent_p] = _slope_transposed
mlir.register_lowering(tangent_p, mlir.lower_fun(formula.tangent, multiple_results=True))
