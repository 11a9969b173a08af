"""How a call of linear cross-entropy is computed: decided from shapes, dtypes and options alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..._arrays.context import Context
from ..._arrays.inspect import FLOATS, Array, dtype_name
from ...core import linear as cutting
from ...core.call import LossCall
from ...core.options import Cotangent, Operands, Outputs
from .linear_products import Converted, Products

# Returns a library's own products of 16-bit matrices, given context, features and weight; None
# where it has none for them.
ChooseProducts = Callable[[Context, Array, Array], Products | None]


class Plan(NamedTuple):
    """The blocks of a call, its matrix products, and the dtypes of its gradients' sums."""

    products: Products
    parts: tuple[str, ...]  # the arguments, of "x", "weight" and "bias", that gradients go to
    # Which of these are summed in the dtype of the arithmetic, and how many bytes each sum takes
    # beside its gradient in 16 bits: 0 where they are one array. The others are summed in the
    # dtype of the products.
    wide: dict[str, int]
    block_rows: int
    cotangent: Cotangent  # what the rows' gradients are computed with
    # What the gradients to features, weight and bias are multiplied by in the end, because the
    # rows' cotangent is without it; None: nothing.
    scale: Array | float | None


def plan(
    call: LossCall,
    o: Operands,
    parts: tuple[str, ...],
    outputs: Outputs,
    cotangent: Cotangent,
    choose_products: ChooseProducts | None,
) -> Plan:
    """Say how a call whose operands have one row axis is computed."""
    cx, linear, classes = call.cx, call.linear, call.classes
    assert linear is not None
    products = _products(call, outputs, choose_products)
    count, width = o.x.shape
    sizes = {"x": count * width, "weight": classes * width}
    wide = dict.fromkeys(parts, 0)
    if products.dtype != cx.compute_dtype:
        kind = dtype_name(products.dtype)
        wide = cutting.wide_sums({n: sizes[n] for n in parts if n in sizes}, kind)
        if "x" in parts and call.group is not None:
            wide["x"] = 4 * sizes["x"]  # the ranks' shares are added before they are rounded
    # Ranks with different numbers of classes must take the same blocks, so all plan for the
    # largest. A group's stage returns a new array of gradients for each block of logits.
    widest = classes if call.shard is None else call.shard.most
    widest *= 2 if call.group is not None and outputs.grad else 1
    # For each row a block has a copy of its features, and their gradient before it is rounded.
    bits = FLOATS[dtype_name(products.dtype)] + FLOATS[dtype_name(cx.compute_dtype)]
    bytes_beside = bits // 8 * width
    block_rows = cutting.block_rows(count, widest, linear, cx, sum(wide.values()), bytes_beside)
    as_given = Plan(products, parts, wide, block_rows, cotangent, None)
    if products.dtype == cx.compute_dtype or not parts:
        return as_given
    row_loss = cotangent.row_loss
    scalar = isinstance(row_loss, float) or row_loss.ndim == 0
    if products.lifted:
        lift = cutting.gradient_scale(o, call.options, cx, row_loss)
        lifted = lift if scalar else row_loss * lift
        scale = (row_loss if scalar else 1.0) / cx.cast(lift, cx.sum_dtype)
        return as_given._replace(cotangent=cotangent._replace(row_loss=lifted), scale=scale)
    if scalar and not outputs.grad_targets and ("weight" in wide or "weight" not in parts):
        # A row's gradient of 1/2 is exact in 16 bits; 1/2 divided by the 600 rows of a mean is
        # not, and is rounded to the same side in every row. So the rows have a cotangent of 1,
        # and the sums are multiplied by their common cotangent.
        unit = isinstance(row_loss, float) and row_loss == 1
        return as_given._replace(
            cotangent=cotangent._replace(row_loss=1.0), scale=None if unit else row_loss
        )
    return as_given


def _products(call: LossCall, outputs: Outputs, choose_products: ChooseProducts | None) -> Products:
    """Choose the products by library, device and dtypes, never by size."""
    cx, x, linear = call.cx, call.operands.x, call.linear
    assert linear is not None
    kind = dtype_name(x.dtype)
    short = kind in ("float16", "bfloat16") and dtype_name(linear.weight.dtype) == kind
    # One launch computes the gradients to soft targets and to float16 logits. The latter would
    # have to be lifted, and the former must not be.
    if short and choose_products is not None and not (kind == "float16" and outputs.grad_targets):
        own = choose_products(cx, x, linear.weight)
        if own is not None:
            return own
    return Converted(cx, linear.weight)
