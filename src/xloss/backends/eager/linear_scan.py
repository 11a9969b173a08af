"""Linear cross-entropy where a compiler traces: a loop over blocks of rows, all of one size.

A library gives the loop and the matrix products of a block. Absent rows fill up the last block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..._arrays.inspect import Array
from ...core import linear as cutting
from ...core.call import LossCall
from ...core.options import Cotangent, Operands, Outcome, Outputs
from ...core.reduce import exact_sum
from ...core.targets import prepare, total_weight
from ...core.token_stats import Tokens, of_fields
from ...core.token_stats import dtypes as token_dtypes
from . import sharded


def run(
    call: LossCall,
    parts: tuple[str, ...],
    outputs: Outputs,
    cotangent: Cotangent,
    library: Callable[[LossCall, Operands], Any],
) -> Outcome:
    """Compute the outputs; the outcome's `grad` is a dict of the gradients to `parts`.

    library: makes of the call, and of its operands with one row axis, an object that offers
    every_row: True for each row.
    zeros(shape, dtype): the start of a sum.
    logits(x): x @ weight.T + bias; x: (rows, features) in the dtype of the arithmetic.
    products(g, x, total, to_x): g @ weight, if `to_x`, and total + g.T @ x, if there is a total.
    loop(body, sums, arrays, kinds): body(sums, block) for one block of the arrays after the other.
    It returns the new sums, and what is found of the rows of the block by the names of `kinds`,
    which are dtypes. The loop returns the last sums, and what was found in the shape of all rows.
    """
    cx, options, classes, group = call.cx, call.options, call.classes, call.group
    xp = cx.xp
    o = cutting.one_row_axis(call.operands, classes, cx)
    outcome = Outcome()
    if outputs.weight and group is not None:
        outcome = Outcome(weight=sharded.weight_sum(call, o))
    elif outputs.weight:
        t = prepare(o, options, cx, classes)
        outcome = Outcome(weight=total_weight(t, cx.row_count(o.x, classes), cx))
    if not (outputs.rows or outputs.total or outputs.grad or outputs.grad_targets):
        return outcome
    blocks, parts = library(call, o), parts if outputs.grad else ()
    row_loss: Any = cotangent.row_loss
    each = not isinstance(row_loss, float) and len(row_loss.shape) > 0
    own_row_loss = xp.reshape(row_loss, (-1,)) if each else None
    present, any_counts = blocks.every_row, cotangent.any_row_counts
    by_row = cutting.present_rows(o, options, cx, classes, cotangent._replace(any_row_counts=None))
    for mask in (by_row, any_counts):
        present = present if mask is None else present & mask
    o = o._replace(where=blocks.every_row if o.where is None else o.where)
    kinds = {"rows": cx.compute_dtype}
    if "x" in parts:
        kinds["x"] = cx.compute_dtype
    if outputs.grad_targets:
        kinds["targets"] = o.targets.dtype  # type: ignore[union-attr]  # they are there
    if outputs.tokens:
        kinds |= token_dtypes(cx, outputs)
    start = {}
    if "weight" in parts:
        start["weight"] = blocks.zeros((classes, o.x.shape[-1]), cx.compute_dtype)
    if "bias" in parts:
        start["bias"] = blocks.zeros((classes,), cx.sum_dtype)
    of_block = outputs._replace(rows=True, total=False, weight=False)

    def body(sums: dict[str, Array], block: Any) -> tuple[dict[str, Array], dict[str, Array]]:
        """Compute one block; return the sums over rows, and what is found of its own."""
        part, counted, up = block
        x = xp.where(counted[:, None], cx.cast(part.x, cx.compute_dtype), 0.0)
        part = part._replace(x=blocks.logits(x), class_weight=o.class_weight)
        own = cotangent if up is None else cotangent._replace(row_loss=up)
        result = sharded.run_rows(call.of(part), of_block, own)
        found = {"rows": result.rows, "targets": result.grad_targets}
        found |= zip(Tokens._fields, result.tokens or (), strict=False)
        g: Any = result.grad
        to_x, weight = blocks.products(g, x, sums.get("weight"), "x" in parts)
        if to_x is not None:
            found["x"] = xp.where(counted[:, None], to_x, 0.0)
        new = {} if weight is None else {"weight": weight}
        if "bias" in sums:
            new["bias"] = sums["bias"] + xp.sum(g, axis=0, dtype=cx.sum_dtype)
        return new, {name: found[name] for name in kinds}

    of_rows = o._replace(class_weight=None), present, own_row_loss
    grad, found = blocks.loop(body, start, of_rows, kinds)
    if "x" in parts:  # every rank's classes have a share in the features' gradient
        grad["x"] = found["x"] if group is None else group.total(found["x"])
    tokens = None
    if outputs.tokens:
        tokens = of_fields((found[name] for name in token_dtypes(cx, outputs)), outputs)
    return outcome._replace(
        rows=found["rows"],
        total=exact_sum(cx, found["rows"]) if outputs.total else None,
        grad=grad,
        grad_targets=found.get("targets"),
        tokens=tokens,
    )
