"""What the primitives of `ffi` stand for: core's formula, and the types of what it makes."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..._arrays.context import context
from ..._arrays.inspect import Array
from ...core.call import LossCall
from ...core.family import evaluate
from ...core.formula import formula_gradients
from ...core.options import UNIT_COTANGENT, Cotangent, Operands, Options, Outputs
from .softmax_rules import softmax_parts


class Form(NamedTuple):
    """What a call of the primitive is specialised on: options, arrays given, results wanted."""

    options: Options
    class_weight: bool
    where: bool
    sample_weight: bool
    cotangent: bool
    saved: bool
    outputs: Outputs


def described(form: Form, arrays: Any) -> tuple[LossCall, Cotangent]:
    """Name the arrays of a call; return it and the cotangent of its rows."""
    left = list(arrays[2:])
    named = [left.pop(0) if there else None for there in form[1:5]]
    class_weight, where, sample_weight, cotangent = named
    x = arrays[0]
    o = Operands(x, arrays[1], class_weight, sample_weight, where)
    call = LossCall("", form.options, context(x, jnp), o, x.shape[-1])
    return call, UNIT_COTANGENT if cotangent is None else Cotangent(cotangent)


def gradient(form: Form, *arrays: Array) -> Array:
    """Return the gradient by plain operations."""
    call, cotangent = described(form, arrays)
    return call.cx.cast(slopes(call, cotangent)[0], arrays[0].dtype)


def slopes(call: LossCall, cotangent: Cotangent) -> tuple[Array, Array | None]:
    """Return the gradients to logits and soft targets by plain operations, not rounded."""
    return formula_gradients(call, cotangent, lambda z, _: softmax_parts(z))


def rows(*arrays: Array, form: Form) -> Any:
    """Return what a call makes by core's own arithmetic."""
    call, cotangent = described(form, arrays)
    o, cx, outputs = call.operands, call.cx, form.outputs._replace(stats=False)
    made = evaluate(o, form.options, cx, call.classes, outputs, cotangent)
    shape = o.x.shape[:-1]
    out = [made.rows] if outputs.rows else []
    if form.outputs.stats:  # read by nobody: there the gradient is found anew
        out += [jnp.zeros(shape, cx.compute_dtype), jnp.zeros((*shape, 2), jnp.uint32)]
    return (*out, made.grad) if outputs.grad else tuple(out)


def tangent(v: Array, *arrays: Array, form: Form) -> Any:
    """Return Σ g v by plain operations."""
    call, _ = described(form, arrays)
    g, cx = slopes(call, UNIT_COTANGENT)[0], call.cx
    # Linear in the tangent, as transposition needs; 0·inf selected away beforehand.
    return (jnp.sum(cx.cast(g, cx.compute_dtype) * cx.cast(v, cx.compute_dtype), axis=-1),)


def row_kinds(x: Any, *_: Any, form: Form) -> list[Any]:
    """Return the types of what a call makes."""
    acc = jnp.dtype("float64" if x.dtype == jnp.float64 else "float32")

    def kind(shape: tuple[int, ...], dtype: Any) -> Any:
        spread = tuple(x.sharding.spec)[: len(x.shape) - 1]
        spread = (*spread, *(None,) * (len(shape) - len(spread)))
        spec = jax.sharding.PartitionSpec(*spread)  # type: ignore[no-untyped-call]
        return x.update(
            shape=shape, dtype=dtype, weak_type=False, sharding=x.sharding.update(spec=spec)
        )

    shape = x.shape[:-1]
    out = [kind(shape, acc)] if form.outputs.rows else []
    if form.outputs.stats:
        out += [kind(shape, acc), kind((*shape, 2), jnp.dtype("uint32"))]
    return [*out, x.update(weak_type=False)] if form.outputs.grad else out


def tangent_kinds(v: Any, x: Any, *arrays: Any, form: Form) -> Any:
    """Return the types of what `tangent` makes."""
    return row_kinds(x, form=form._replace(outputs=Outputs(rows=True)))
