"""Any array library: the engine's result, reduced."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf, prod
from typing import Any

from ..._arrays.inspect import Array
from ..._arrays.ops import cast, plain, quiet
from ...core.call import LossCall
from ...core.options import Cotangent, Outcome, Outputs
from ...core.reduce import contributing, mean
from ...engines import choose

Run = Callable[..., Outcome]  # of what is needed, and the upstream


def runner(call: LossCall) -> Run:
    """Return the engine's run of a call."""
    engine = choose(call.operands, call.options, call.cx)
    return partial(engine.run, call.operands, call.options, call.cx, call.classes)


def value(call: LossCall, run: Run | None = None) -> Array:
    """Return the loss."""
    options, cx = call.options, call.cx
    if run is None:
        engine: Any = choose(call.operands, options, cx)
        if reduces(engine, call):
            return engine.loss(
                call.operands, options, cx, call.classes, call.normalizer, call.memory
            )
        run = partial(engine.run, call.operands, options, cx, call.classes)
    if options.reduction == "none":
        return plain(cx, run(Outputs(rows=True)).rows)
    count = None if options.reduction == "sum" else known_weight(call)
    unknown = options.reduction == "mean" and count is None
    got = run(Outputs(total=True, weight=unknown))
    return reduced(call, got.total, got.weight if unknown else count)


def reduces(engine: Any, call: LossCall) -> bool:
    """Tell whether an engine goes all the way to the sum or the mean."""
    return bool(engine.reduces(call.operands, call.options))


def known_weight(call: LossCall) -> float | None:
    """Return the mean's denominator where it is the number of rows, else None."""
    o = call.operands
    if not (
        call.cx.labels_verified
        and call.cx.on_host
        and o.class_weight is o.sample_weight is o.where is None
    ):
        return None
    return float(prod(o.targets.shape))  # type: ignore[union-attr]


def reduced(call: LossCall, total: Array, weight: Array | float | None) -> Array:
    """Return the sum or the mean in the loss dtype."""
    cx = call.cx
    with quiet(cx):  # a total beyond the loss dtype is infinite
        if weight is not None:
            total = mean(cx, total, weight, call.normalizer)
        return plain(cx, cast(cx, total, cx.compute_dtype))


def value_and_grad(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the closed-form gradients to "x" and "targets"."""
    wants = Outputs(grad="x" in wanted, grad_targets="targets" in wanted)
    o, options, cx = call.operands, call.options, call.cx
    engine: Any = choose(o, options, cx)
    if reduces(engine, call) and wants == Outputs(grad=True):
        cot = 1.0 if cotangent is None else cast(cx, cotangent, cx.sum_dtype)
        memory = call.memory if cotangent is None else None
        loss, grad = engine.gradient(o, options, cx, call.classes, call.normalizer, cot, memory)
        return loss, named(call, grad, None)
    got, made = evaluated(call, partial(engine.run, o, options, cx, call.classes), wants, cotangent)
    return got, named(call, made.grad, made.grad_targets)


def evaluated(
    call: LossCall, run: Run, wants: Outputs, cotangent: Any, weight: Any = None, value: bool = True
) -> tuple[Array | None, Outcome]:
    """Return the loss if wanted, and a result with the gradients; weight: the mean's, if known."""
    options, cx = call.options, call.cx
    cot: Any = 1.0 if cotangent is None else cast(cx, cotangent, cx.sum_dtype)
    if options.reduction == "none":
        got = run(wants._replace(rows=True), Cotangent(cot))
        return plain(cx, got.rows), got
    if options.reduction == "sum":
        got = run(wants._replace(total=value), Cotangent(cot))
        return reduced(call, got.total, None) if value else None, got
    weight = known_weight(call) if weight is None else weight
    if weight is None:
        weight = run(Outputs(weight=True)).weight
    factor, weight, live = slope(call, cot, weight)
    share = None
    if wants.grad_targets and call.normalizer is None and depends_on_targets(call):
        total = run(Outputs(total=True)).total
        with quiet(cx):
            share = -factor * mean(cx, total, weight, None)
    got = run(wants._replace(total=value), Cotangent(factor, share, live))
    return reduced(call, got.total, weight) if value else None, got


def slope(call: LossCall, cotangent: Any, weight: Any) -> tuple[Any, Any, Array | None]:
    """Return d result/d row loss of a mean, its weight, and whether anything contributes."""
    cx = call.cx
    xp = cx.xp
    below = weight if call.normalizer is None else call.normalizer
    weight = contributing(cx, weight, call.normalizer)
    with quiet(cx):
        if cx.on_host and float(weight) != 0:
            return (cotangent / below if float(below) != 0 else cotangent * inf), weight, None
        weight = xp.asarray(weight, dtype=cx.sum_dtype)
        live = weight != 0
        return cotangent / xp.where(live, below, xp.ones_like(weight)), weight, live


def depends_on_targets(call: LossCall) -> bool:
    """Tell whether the mean's denominator is a sum of soft targets."""
    return call.classes > 0 and call.options.kind != "kl_div" and not call.options.indexed


def named(call: LossCall, grad: Array | None, grad_targets: Array | None) -> dict[str, Array]:
    """Name the gradients, each with the class axis where its argument has it."""
    out = {}
    if grad is not None:
        out["x"] = restore(call, grad)
    if grad_targets is not None:
        out["targets"] = restore(call, grad_targets)
    return out


def restore(call: LossCall, g: Array) -> Array:
    """Move the class axis back to where it was."""
    if not call.classes or call.axis == -1:
        return g
    n = g.ndim
    axes = list(range(n - 1))
    axes.insert(n + call.axis, n - 1)
    return call.cx.xp.permute_dims(g, tuple(axes))


def elements(call: LossCall) -> Array:
    """Return softmax or its logarithm, elementwise."""
    engine = choose(call.operands, call.options, call.cx)
    got = engine.run(
        call.operands, call.options, call.cx, call.classes, Outputs(elements=True)
    ).elements
    return restore(call, got)


def weight(call: LossCall) -> Array:
    """Return the mean's denominator."""
    engine = choose(call.operands, call.options, call.cx)
    return engine.run(
        call.operands, call.options, call.cx, call.classes, Outputs(weight=True)
    ).weight
