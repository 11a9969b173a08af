"""Linear cross-entropy: logits are computed a block of rows at a time, and never stored whole."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..._arrays.inspect import Array
from ...core import linear as cutting
from ...core.call import LossCall
from ...core.options import UNIT_COTANGENT, Cotangent, Outcome, Outputs
from ...core.token_stats import Tokens
from . import dense, sharded
from .linear_blocks import BlockPass, Stage, unchanged
from .linear_plan import ChooseProducts, plan

NAMES = ("x", "weight", "bias", "targets")  # arguments that may have a gradient, in their order
TWICE = (
    "linear_cross_entropy: second derivatives are not offered, for its gradients are made in the "
    "forward pass; cross_entropy(features @ weight.T + bias, targets) has them"
)


# A library's own products of 16-bit matrices, entered by its package.
PRODUCTS: dict[str, ChooseProducts] = {}


def value(call: LossCall) -> Array:
    """Return the loss."""
    return dense.value(call, partial(run, call, ()))


def tokens(call: LossCall, asked: Outputs) -> tuple[Array, Tokens]:
    """Return row losses and the numbers beside them."""
    return dense.tokens(call, asked, partial(run, call, ()))


def value_and_grad(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the closed-form gradients, in one pass."""
    loss, grads = evaluated(call, partial(run, call), wanted, cotangent)
    return loss, rounded(call, grads)


def evaluated(
    call: LossCall, compute: Any, wanted: tuple[str, ...], cotangent: Any, value: bool = True
) -> tuple[Array | None, dict[str, Array]]:
    """Return the loss, if `value`, and the gradients; but those to targets are not yet rounded.

    `compute` is a library's `run` with the call filled in.
    """
    parts = tuple(name for name in wanted if name != "targets")
    outputs, run = (
        Outputs(grad=bool(parts), grad_targets="targets" in wanted),
        partial(compute, parts),
    )
    loss, outcome = dense.evaluated(call, run, outputs, cotangent, value=value)
    grads = dict(outcome.grad or {})
    if outcome.grad_targets is not None:
        grads["targets"] = outcome.grad_targets
    return loss, grads


def argument(call: LossCall, name: str) -> Array:
    """Return the array that a gradient goes to."""
    assert call.linear is not None
    o = call.operands
    return {"x": o.x, "targets": o.targets}.get(name, getattr(call.linear, name, None))


def rounded(call: LossCall, grads: dict[str, Array]) -> dict[str, Array]:
    """Give each gradient its argument's dtype."""
    with call.cx.quiet():  # what is beyond the range of 16 bits becomes infinite
        return {name: call.cx.cast(g, argument(call, name).dtype) for name, g in grads.items()}


def run(
    call: LossCall,
    parts: tuple[str, ...],
    outputs: Outputs,
    cotangent: Cotangent = UNIT_COTANGENT,
    stage: Stage | None = None,
) -> Outcome:
    """Compute the outputs; the outcome's `grad` is a dict of the gradients to `parts`.

    stage: the views on which the rows of a call are computed, with one row axis; None: on the
    library's own arrays.
    """
    cx, linear, classes = call.cx, call.linear, call.classes
    assert linear is not None
    xp, o = cx.xp, cutting.one_row_axis(call.operands, classes, cx)
    rows = tuple(call.operands.x.shape[:-1])
    if not isinstance(cotangent.row_loss, float) and cotangent.row_loss.ndim > 1:
        cotangent = cotangent._replace(row_loss=xp.reshape(cotangent.row_loss, (o.x.shape[0],)))
    with cx.quiet():
        products = PRODUCTS.get(cx.library)
        chosen = plan(call, o, parts if outputs.grad else (), outputs, cotangent, products)
        outcome = Outcome()
        if outputs.rows or outputs.total or outputs.grad or outputs.grad_targets:
            arrays = Stage(cx, o, unchanged, unchanged) if stage is None else stage
            outcome = BlockPass(call, o, arrays, outputs, chosen).outcome()
        if outputs.weight:
            if call.group is None:
                total = cutting.weight_sum(o, call.options, cx, classes, chosen.block_rows)
            else:
                total = sharded.weight_sum(call, o)
            outcome = outcome._replace(weight=total)
    if outcome.rows is not None:
        outcome = outcome._replace(rows=xp.reshape(outcome.rows, rows))
    if outcome.tokens is not None:
        whole = (None if a is None else xp.reshape(a, rows) for a in outcome.tokens)
        outcome = outcome._replace(tokens=tuple(whole))
    grads = outcome.grad
    if grads is not None and "x" in grads:
        if call.group is not None:  # every rank's classes have a share in the features' gradient
            grads["x"] = call.group.total(grads["x"])
        grads["x"] = xp.reshape(grads["x"], tuple(call.operands.x.shape))
    if outcome.grad_targets is not None:
        shape = tuple(argument(call, "targets").shape)
        outcome = outcome._replace(grad_targets=xp.reshape(outcome.grad_targets, shape))
    return outcome
