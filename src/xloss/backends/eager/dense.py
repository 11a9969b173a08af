"""Whole logits on a library without autodiff: an engine computes, and its outcome is reduced."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf, prod
from typing import Any, TypeGuard

from ..._arrays.inspect import Array
from ...core.call import LossCall
from ...core.options import Cotangent, Outcome, Outputs
from ...core.reduce import contributing, mean
from ...core.token_stats import Tokens, mapped
from ...engines import Engine, ReducingEngine, choose

# Called with the Outputs that are wanted and, for gradients, with the Cotangent of the rows.
Run = Callable[..., Outcome]


def runner(call: LossCall) -> Run:
    """Return the row functions of the engine that takes a call, applied to its operands."""
    return partial(choose(call).run, call)


def value(call: LossCall, run: Run | None = None) -> Array:
    """Return the loss; `run` replaces the engine, where its operands are not the logits."""
    options, cx = call.options, call.cx
    if run is None:
        engine = choose(call)
        if reduces(engine, call):
            return engine.reduced(call, grad=False, keep=False)[0]
        run = partial(engine.run, call)
    if options.reduction == "none":
        return cx.plain(run(Outputs(rows=True)).rows)
    weight = None if options.reduction == "sum" else known_weight(call)
    unknown = options.reduction == "mean" and weight is None
    outcome = run(Outputs(total=True, weight=unknown))
    return reduced(call, outcome.total, outcome.weight if unknown else weight)


def reduces(engine: Engine, call: LossCall) -> TypeGuard[ReducingEngine]:
    """Tell whether an engine computes the sum or the mean itself, in the launch of the rows."""
    return hasattr(engine, "reduces") and engine.reduces(call)


def known_weight(call: LossCall) -> float | None:
    """Return the mean's denominator where it is the number of rows, else None."""
    o = call.operands
    if not (
        call.cx.labels_verified
        and call.options.indexed
        and call.cx.on_host
        and o.class_weight is o.sample_weight is o.where is None
    ):
        return None
    return float(prod(o.targets.shape))  # type: ignore[union-attr]


def reduced(call: LossCall, total: Array, weight: Array | float | None) -> Array:
    """Return the sum or, given the denominator, the mean, in the loss dtype."""
    cx = call.cx
    with cx.quiet():  # a total that the loss dtype cannot hold becomes infinite
        if weight is not None:
            total = mean(cx, total, weight, call.normalizer)
        return cx.plain(cx.cast(total, cx.compute_dtype))


def value_and_grad(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the closed-form gradients to "x" and "targets"."""
    outputs = Outputs(grad="x" in wanted, grad_targets="targets" in wanted)
    engine = choose(call)
    if reduces(engine, call) and outputs == Outputs(grad=True):
        cot = None if cotangent is None else call.cx.cast(cotangent, call.cx.sum_dtype)
        loss, grad, _ = engine.reduced(call, cot, grad=True, keep=False)
        return loss, named(call, grad, None)
    loss, outcome = evaluated(call, partial(engine.run, call), outputs, cotangent)
    return loss, named(call, outcome.grad, outcome.grad_targets)


def evaluated(
    call: LossCall,
    run: Run,
    outputs: Outputs,
    cotangent: Any,
    weight: Any = None,
    value: bool = True,
) -> tuple[Array | None, Outcome]:
    """Return the loss, if `value`, and the outcome with the gradients that `outputs` names.

    `weight` is the mean's denominator where a forward pass has summed it already.
    """
    options, cx = call.options, call.cx
    cot: Any = 1.0 if cotangent is None else cx.cast(cotangent, cx.sum_dtype)
    if options.reduction == "none":
        outcome = run(outputs._replace(rows=value), Cotangent(cot))
        return cx.plain(outcome.rows) if value else None, outcome
    if options.reduction == "sum":
        outcome = run(outputs._replace(total=value), Cotangent(cot))
        return reduced(call, outcome.total, None) if value else None, outcome
    weight = known_weight(call) if weight is None else weight
    if weight is None:
        weight = run(Outputs(weight=True)).weight
    row_loss, weight, any_row_counts = mean_cotangent(call, cot, weight)
    row_weight = None
    if outputs.grad_targets and call.normalizer is None and depends_on_targets(call):
        total = run(Outputs(total=True)).total
        with cx.quiet():
            row_weight = -row_loss * mean(cx, total, weight, None)
    outcome = run(outputs._replace(total=value), Cotangent(row_loss, row_weight, any_row_counts))
    return reduced(call, outcome.total, weight) if value else None, outcome


def mean_cotangent(call: LossCall, cotangent: Any, weight: Any) -> tuple[Any, Any, Array | None]:
    """Return a row loss's cotangent under a mean, the mean's weight, and whether a row counts.

    The last is None where the host knows that a row counts.
    """
    cx = call.cx
    xp = cx.xp
    denominator = weight if call.normalizer is None else call.normalizer
    weight = contributing(cx, weight, call.normalizer)
    with cx.quiet():
        if cx.on_host and float(weight) != 0:
            row_loss = cotangent / denominator if float(denominator) != 0 else cotangent * inf
            return row_loss, weight, None
        weight = xp.asarray(weight, dtype=cx.sum_dtype)
        any_row_counts = weight != 0
        row_loss = cotangent / xp.where(any_row_counts, denominator, xp.ones_like(weight))
        return row_loss, weight, any_row_counts


def depends_on_targets(call: LossCall) -> bool:
    """Tell whether the mean's denominator is a sum of soft targets."""
    return call.classes > 0 and call.options.kind != "kl_div" and not call.options.indexed


def named(call: LossCall, grad: Array | None, grad_targets: Array | None) -> dict[str, Array]:
    """Return the gradients by the names of their arguments, in whose layout they are."""
    both = {"x": grad, "targets": grad_targets}
    return {name: restore(call, g) for name, g in both.items() if g is not None}


def restore(call: LossCall, g: Array) -> Array:
    """Move the class axis from the end to where the user has it."""
    if not call.classes or call.axis == -1:
        return g
    n = g.ndim
    axes = list(range(n - 1))
    axes.insert(n + call.axis, n - 1)
    return call.cx.xp.permute_dims(g, tuple(axes))


def tokens(call: LossCall, asked: Outputs, run: Run | None = None) -> tuple[Array, Tokens]:
    """Return row losses and the numbers beside them; `run` as in `value`."""
    got = (runner(call) if run is None else run)(asked)
    return call.cx.plain(got.rows), mapped(call.cx.plain, got.tokens or ())


def elements(call: LossCall) -> Array:
    """Return softmax or its logarithm, elementwise."""
    return restore(call, runner(call)(Outputs(elements=True)).elements)


def weight(call: LossCall) -> Array:
    """Return the mean's denominator."""
    return runner(call)(Outputs(weight=True)).weight
