"""Linear cross-entropy on JAX: the scan over blocks of rows, which every transformation starts."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import lax

from ..._arrays.inspect import Array
from ...core import linear as cutting
from ...core.call import LossCall
from ...core.options import UNIT_COTANGENT, Cotangent, Operands, Outcome, Outputs
from ...core.reduce import exact_sum
from ...core.token_stats import Tokens, dtypes, mapped
from ..eager import sharded


def run(
    call: LossCall, parts: tuple[str, ...], outputs: Outputs, cotangent: Cotangent = UNIT_COTANGENT
) -> Outcome:
    """Compute the outputs in a scan over blocks of rows.

    All blocks have the same number of rows, as a scan needs. The last one begins early to be full,
    and the rows that the block before it has computed count as absent in it.
    """
    cx, options, classes, linear = call.cx, call.options, call.classes, call.linear
    assert linear is not None
    shape = tuple(call.operands.x.shape)
    o = cutting.one_row_axis(call.operands, classes, cx)
    count, width = o.x.shape
    outcome = Outcome()
    if outputs.weight:
        if call.group is None:
            outcome = Outcome(weight=cutting.weight_sum(o, options, cx, classes, count))
        else:
            outcome = Outcome(weight=sharded.weight_sum(call, o))
    if not (outputs.rows or outputs.total or outputs.grad or outputs.grad_targets):
        return outcome
    if not isinstance(cotangent.row_loss, float) and cotangent.row_loss.ndim > 1:
        cotangent = cotangent._replace(row_loss=cotangent.row_loss.reshape(count))
    # A length that is a symbol (jax.export) cannot be cut into blocks of a known length: one block.
    known = all(isinstance(n, int) for n in (count, width, classes))
    step = cutting.block_rows(count, classes, linear, cx) if known else count
    blocks = -(-count // step) if known else 1
    row_present = cutting.present_rows(o, options, cx, classes, cotangent)
    group = call.group

    def varying(a: Array) -> Array:
        """Return the start of a sum that differs from rank to rank."""
        return a if group is None else group.own(a)

    shapes = {
        "x": ((count, width), cx.compute_dtype),
        "weight": ((classes, width), cx.compute_dtype),
        "bias": ((classes,), cx.sum_dtype),
    }
    start = {name: varying(jnp.zeros(*shapes[name])) for name in parts if outputs.grad}
    start["rows"] = jnp.zeros((count,), cx.compute_dtype)
    if outputs.tokens:
        # As numbers, correct too: each block adds 0 to the rows that another computes.
        for name, kind in dtypes(cx, outputs).items():
            start[f"row {name}"] = jnp.zeros((count,), jnp.int32 if name == "correct" else kind)
    if outputs.grad_targets and o.targets is not None:
        start["targets"] = jnp.zeros_like(o.targets)

    def rows_of(a: Array | None, at: Any) -> Array | None:
        return None if a is None else lax.dynamic_slice_in_dim(a, at, step)

    def add_rows(a: Array, block: Array, at: Any) -> Array:
        """Add a block to its rows; it is 0 in the rows that an earlier block has computed."""
        return lax.dynamic_update_slice_in_dim(a, rows_of(a, at) + block, at, 0)

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

    def body(carry: dict[str, Array], i: Any) -> tuple[dict[str, Array], None]:
        """Compute one block, and add it to the outputs."""
        at = jnp.minimum(i * step, count - step)
        new = at + jnp.arange(step) >= i * step
        counted = new if row_present is None else new & rows_of(row_present, at)
        x = jnp.where(counted[:, None], cx.cast(rows_of(o.x, at), cx.compute_dtype), 0.0)
        where = new if o.where is None else new & rows_of(o.where, at)
        targets, sample_weight = rows_of(o.targets, at), rows_of(o.sample_weight, at)
        indices = rows_of(o.indices, at)
        block = Operands(logits(x), targets, o.class_weight, sample_weight, where, indices=indices)
        row_loss = cotangent.row_loss
        if not isinstance(row_loss, float) and row_loss.ndim > 0:
            row_loss = rows_of(row_loss, at)
        of_block = outputs._replace(rows=True, total=False, weight=False)
        of_rows = cotangent._replace(row_loss=row_loss)
        result = sharded.run_rows(call._replace(operands=block, cx=cx), of_block, of_rows)
        g: Any = result.grad

        def products(sums: dict[str, Array], at: Any, new: Any, w: Array) -> dict[str, Array]:
            """Add the products with a class slice of g, (rows, classes)."""
            part = jnp.where(new, lax.dynamic_slice_in_dim(g, at, slice_size, 1), 0.0)
            out = {}
            if "x" in sums:
                out["x"] = sums["x"] + part @ w
            if "weight" in sums:
                total = lax.dynamic_slice_in_dim(sums["weight"], at, slice_size) + part.T @ x
                out["weight"] = lax.dynamic_update_slice_in_dim(sums["weight"], total, at, 0)
            return out

        sums = {"weight": carry["weight"]} if "weight" in carry else {}
        if "x" in carry:
            sums["x"] = varying(jnp.zeros((step, width), cx.compute_dtype))
        sums = over_class_slices(products, sums) if sums else sums
        out = {**carry, "rows": add_rows(carry["rows"], result.rows, at)}
        for name, v in zip(Tokens._fields, result.tokens or (), strict=False):
            if v is not None:
                total = carry[f"row {name}"]
                out[f"row {name}"] = add_rows(total, jnp.where(new, v, 0).astype(total.dtype), at)
        if "weight" in sums:
            out["weight"] = sums["weight"]
        if "x" in sums:
            out["x"] = add_rows(carry["x"], jnp.where(counted[:, None], sums["x"], 0.0), at)
        if "bias" in carry:
            out["bias"] = carry["bias"] + cx.cast(jnp.sum(g, axis=0), cx.sum_dtype)
        if "targets" in carry:
            out["targets"] = add_rows(carry["targets"], result.grad_targets, at)
        return out, None

    done = start
    if blocks:
        done, _ = lax.scan(body, start, jnp.arange(blocks))
    rows = done.pop("rows")
    t: Any = call.operands.targets
    if "targets" in done:
        outcome = outcome._replace(grad_targets=done.pop("targets").reshape(t.shape))
    if "x" in done:
        # Every rank's classes have a share in the features' gradient.
        done["x"] = (done["x"] if group is None else group.total(done["x"])).reshape(shape)
    if outputs.tokens:
        numbers = [done.pop(f"row {name}", None) for name in Tokens._fields]
        found = mapped(lambda a: a.reshape(shape[:-1]), numbers)
        outcome = outcome._replace(tokens=found._replace(correct=found.correct != 0))
    total = exact_sum(cx, rows) if outputs.total else None
    return outcome._replace(rows=rows.reshape(shape[:-1]), total=total, grad=done)
