"""Linear cross-entropy on JAX: the scan over blocks of rows, which every transformation starts."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ..._arrays.inspect import Array
from ...core import linear as cutting
from ...core.call import LossCall
from ...core.options import UNIT_COTANGENT, Cotangent, Outcome, Outputs
from ...core.reduce import exact_sum
from ..eager import sharded


def run(
    call: LossCall, parts: tuple[str, ...], outputs: Outputs, cotangent: Cotangent = UNIT_COTANGENT
) -> Outcome:
    """Compute the outputs in a scan over blocks of rows.

    All blocks have the same number of rows, as a scan needs: absent rows fill up the last one.
    """
    cx, options, classes, linear = call.cx, call.options, call.classes, call.linear
    group = call.group
    assert linear is not None
    shape = tuple(call.operands.x.shape)
    o = cutting.one_row_axis(call.operands, classes, cx)
    count, width = o.x.shape
    outcome = Outcome()
    if outputs.weight:
        if group is None:
            outcome = Outcome(weight=cutting.weight_sum(o, options, cx, classes, count))
        else:
            outcome = Outcome(weight=sharded.weight_sum(call, o))
    if not (outputs.rows or outputs.total or outputs.grad or outputs.grad_targets):
        return outcome
    # A length that is a symbol (jax.export) cannot be cut into blocks of a known length: one block.
    known = all(isinstance(n, int) for n in (count, width, classes))
    step = cutting.block_rows(count, classes, linear, cx) if known else count
    blocks = -(-count // step) if known else 1
    missing = blocks * step - count if known else 0

    def cut(a: Array) -> Array:
        """Return an array of (rows, ...) as (blocks, step, ...)."""
        if missing:
            a = jnp.pad(a, [(0, missing), *[(0, 0)] * (a.ndim - 1)])
        return a.reshape(blocks, step, *a.shape[1:])

    def joined(a: Array) -> Array:
        """Return blocks of rows in the shape of the operands' rows."""
        a = a.reshape(blocks * step, *a.shape[2:])
        return (a[:count] if missing else a).reshape(*shape[:-1], *a.shape[1:])

    present = cutting.present_rows(o, options, cx, classes, cotangent)
    if missing:
        every_row = jnp.ones((count,), jnp.bool_)
        present = every_row if present is None else present
        o = o._replace(where=every_row if o.where is None else o.where)
    row_loss: Any = cotangent.row_loss
    each = not isinstance(row_loss, float) and row_loss.ndim > 0
    own_cotangents = row_loss.reshape(count) if each else None
    of_rows = o._replace(class_weight=None), present, own_cotangents
    of_block = outputs._replace(rows=True, total=False, weight=False)

    def varying(a: Array) -> Array:
        """Return the start of a sum that differs from rank to rank."""
        return a if group is None else group.own(a)

    start = {}
    if outputs.grad and "weight" in parts:
        start["weight"] = varying(jnp.zeros((classes, width), cx.compute_dtype))
    if outputs.grad and "bias" in parts:
        start["bias"] = varying(jnp.zeros((classes,), cx.sum_dtype))
    # How many classes' weights are converted to the dtype of the arithmetic at once.
    slice_size = max(1, min(classes, cutting.WEIGHT_CHUNK // max(1, width))) if known else classes

    def over_class_slices(step: Any, carry: Any) -> Any:
        """Fold a step over class slices of the weight, converted.

        The last slice begins early to be full; `new` marks the classes that no earlier one had.
        """

        def one(j: Any, carry: Any) -> Any:
            at = jnp.minimum(j * slice_size, classes - slice_size)
            w = lax.dynamic_slice_in_dim(linear.weight, at, slice_size)
            new = at + jnp.arange(slice_size) >= j * slice_size
            return step(carry, at, new, cx.cast(w, cx.compute_dtype))

        return lax.fori_loop(0, -(-classes // slice_size) if known else 1, one, carry)

    def logits(x: Array) -> Array:
        """Return the logits of a block, (rows, classes); x: (rows, features)."""
        if linear.weight.dtype == cx.compute_dtype:
            z = jnp.matmul(x, linear.weight.T)
        else:
            z = over_class_slices(
                lambda z, at, new, w: lax.dynamic_update_slice_in_dim(z, x @ w.T, at, 1),
                varying(jnp.zeros((step, classes), cx.compute_dtype)),
            )
        return z if linear.bias is None else z + cx.cast(linear.bias, cx.compute_dtype)

    def body(total: dict[str, Array], block: Any) -> tuple[dict[str, Array], Any]:
        """Compute one block; return the sums over rows, and what is found of its own."""
        part, counted, own_cotangent = block

        def selected(a: Array) -> Array:
            return a if counted is None else jnp.where(counted[:, None], a, 0.0)

        x = selected(cx.cast(part.x, cx.compute_dtype))
        part = part._replace(x=logits(x), class_weight=o.class_weight)
        up = cotangent if own_cotangent is None else cotangent._replace(row_loss=own_cotangent)
        result = sharded.run_rows(call._replace(operands=part, cx=cx), of_block, up)
        g: Any = result.grad

        def products(sums: dict[str, Array], at: Any, new: Any, w: Array) -> dict[str, Array]:
            """Add the products with a class slice of g, (rows, classes)."""
            part = jnp.where(new, lax.dynamic_slice_in_dim(g, at, slice_size, 1), 0.0)
            out = {}
            if "x" in sums:
                out["x"] = sums["x"] + part @ w
            if "weight" in sums:
                own = lax.dynamic_slice_in_dim(sums["weight"], at, slice_size) + part.T @ x
                out["weight"] = lax.dynamic_update_slice_in_dim(sums["weight"], own, at, 0)
            return out

        sums = {name: a for name, a in total.items() if name == "weight"}
        if outputs.grad and "x" in parts:
            sums["x"] = varying(jnp.zeros((step, width), cx.compute_dtype))
        sums = over_class_slices(products, sums) if sums else sums
        to_x = selected(sums.pop("x")) if "x" in sums else None
        if "bias" in total:
            sums["bias"] = total["bias"] + cx.cast(jnp.sum(g, axis=0), cx.sum_dtype)
        return sums, (result.rows, to_x, result.grad_targets, result.tokens)

    grad, found = lax.scan(body, start, jax.tree.map(cut, of_rows), length=blocks)
    rows, to_x, grad_targets, tokens = jax.tree.map(joined, found)
    if to_x is not None:
        # Every rank's classes have a share in the features' gradient.
        grad["x"] = to_x if group is None else group.total(to_x)
    return outcome._replace(
        rows=rows,
        total=exact_sum(cx, rows) if outputs.total else None,
        grad=grad,
        grad_targets=grad_targets,
        tokens=tokens,
    )
