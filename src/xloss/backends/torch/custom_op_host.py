"""Cross-entropy on the host as operations of PyTorch's, which torch.compile keeps whole.

A compiled graph holds their names and runs the compiled engine through them, as an uncompiled call
does: same bits, one pass over the logits forward and one back. Of few classes the gradient is
computed with the loss, in one launch, and backward returns it where the cotangent is 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..._arrays.context import read
from ..._arrays.inspect import Array
from ...core.call import LossCall
from ...core.options import Outputs
from ...core.targets import bounds
from ...engines import asked_now, choose
from ...engines.cpu import engine as cpu
from ..eager import dense as default
from . import autograd as torch_reduced
from . import custom_op, gradient_ahead
from .autograd import GRADIENT, NOTHING, STATS, run
from .custom_op import CALL_ARRAYS, CALL_OPTIONS
from .numpy_views import home, with_numpy_views
from .sizes import is_at_most
from .softmax_rules import mapped, one_by_one


def takes(call: LossCall) -> bool:
    """Tell whether a traced call is kept whole: where the CPU engine will run it."""
    return (
        torch.compiler.is_compiling()
        and call.operands.x.device.type == "cpu"
        and custom_op.keeps(call)
        and _available()
        and custom_op.only_mapped()
    )


@custom_op.asked_once
def _available() -> bool:
    """Tell whether the engine is here and no other is asked for; a compiler asks once.

    A graph made where another engine is asked for holds plain operations from then on. One that
    holds the operation asks again whenever it runs.
    """
    return asked_now() in (None, "cpu") and cpu.unavailable() is None


def value(call: LossCall) -> Array:
    """Return the loss of a call that is taken."""
    x = call.operands.x
    few = is_at_most(call.classes, cpu.save_stats_from)
    # What vmap maps over says of itself that it needs no gradient.
    recorded = torch.is_grad_enabled() and (x.requires_grad or custom_op.transforming())
    if not recorded or (few and call.options.reduction == "none"):
        saves = NOTHING
    else:
        saves = GRADIENT if few else STATS
    return host_cross_entropy(*custom_op.call_arguments(call), saves)[0]


def rows(call: LossCall) -> Array:
    """Return the row losses of a call that is taken."""
    return value(call._replace(options=call.options._replace(reduction="none"), normalizer=None))


def value_and_grad(call: LossCall, given: Array | None) -> tuple[Array, Array]:
    """Return the loss of a call that is taken, and its gradient to the logits."""
    loss, gradient = host_cross_entropy_gradient(given, *custom_op.call_arguments(call))
    return loss, gradient


@torch.library.custom_op(
    "xloss::host_cross_entropy",
    mutates_args=(),
    schema=f"({CALL_ARRAYS}, {CALL_OPTIONS}, str saves) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def host_cross_entropy(*arguments: Any) -> tuple[Tensor, ...]:
    """Return the loss, and what a gradient can start from: what is not kept is empty.

    That is the mean's denominator, the rows' maxima and rests, and a token for the gradient to x.
    """
    *given, saves = arguments
    waits = saves == GRADIENT
    call = _call(given)
    x, acc, wide = call.operands.x, call.cx.compute_dtype, torch.float64
    if call.options.reduction == "none":
        outputs = Outputs(rows=True, stats=saves == STATS)
        got = run(call, outputs)
        made = torch_reduced.Made(got.rows, None, got.stats or ())
        weight = x.new_empty(0, dtype=wide)
    else:
        if saves == GRADIENT:
            engine: Any = choose(call)
            saves = GRADIENT if gradient_ahead.pays(engine, call.classes) else NOTHING
        made = torch_reduced.forward(call, saves)
        weight = torch.full((), 1.0 if made.weight is None else float(made.weight), dtype=wide)
    maxima, rests = made.stats or (x.new_empty(0, dtype=acc), x.new_empty(0, dtype=wide))
    gradient = None if made.gradient is None else custom_op.laid(made.gradient, x)
    token = gradient_ahead.token(gradient) if waits else x.new_empty(0, dtype=wide)
    return made.value, weight, maxima, rests, token


@torch.library.custom_op(
    "xloss::host_cross_entropy_backward",
    mutates_args=(),
    schema=f"(Tensor up, Tensor weight, Tensor maxima, Tensor rests, Tensor token, {CALL_ARRAYS}, "
    f"{CALL_OPTIONS}) -> Tensor",
)
def host_cross_entropy_backward(
    cotangent: Tensor, weight: Tensor, maxima: Tensor, rests: Tensor, token: Tensor, *given: Any
) -> Tensor:
    """Return the gradient to x times the cotangent, from what the loss kept."""
    x = given[0]
    ahead: Tensor | None = gradient_ahead.taken(token)
    if ahead is not None and gradient_ahead.is_one(cotangent):
        return ahead
    call = _call(given)
    stats = (maxima, rests) if maxima.shape == x.shape[:-1] else ()
    if call.options.reduction == "none":
        made = run(call, Outputs(grad=True), cotangent, stats or None).grad
    else:
        mean = float(weight) if call.options.reduction == "mean" else None
        made = torch_reduced.backward(call, cotangent, mean, stats)
    return custom_op.laid(home(made), x)


@torch.library.custom_op(
    "xloss::host_cross_entropy_gradient",
    mutates_args=(),
    schema=f"(Tensor? up, {CALL_ARRAYS}, {CALL_OPTIONS}) -> (Tensor, Tensor)",
)
def host_cross_entropy_gradient(cotangent: Tensor | None, *given: Any) -> tuple[Tensor, Tensor]:
    """Return the loss and its gradient to x times the cotangent."""
    x = given[0]
    call, cotangent = with_numpy_views(_call(given), cotangent)
    loss, grads = default.value_and_grad(call, ("x",), cotangent)
    return home(loss), custom_op.laid(home(grads["x"]), x)


def _call(given: Sequence[Any]) -> LossCall:
    """Return the call that the arguments stand for, its labels looked at as outside a graph."""
    call = custom_op.described_call(given)
    cx, classes, ignore = call.cx, call.classes, call.options.ignore_index
    clean = False
    if call.options.indexed and cx.on_host:
        least, most = bounds(given[1], cx)
        clean = least >= 0 and most < classes and (ignore is None or not least <= ignore <= most)
    return call._replace(cx=read(cx, clean))


@host_cross_entropy.register_fake
def _like(x: Tensor, *others: Any) -> tuple[Tensor, ...]:
    reduction, saves = others[-2:]
    acc = torch.float64 if x.dtype == torch.float64 else torch.float32
    rows = x.shape[:-1]
    stats = rows if saves == STATS else (0,)
    return (
        x.new_empty(rows if reduction == "none" else (), dtype=acc),
        x.new_empty((0,) if reduction == "none" else (), dtype=torch.float64),
        x.new_empty(stats, dtype=acc),
        x.new_empty(stats, dtype=torch.float64),
        x.new_empty((1 if saves == GRADIENT else 0,), dtype=torch.float64),
    )


@host_cross_entropy_backward.register_fake
def _like_x(
    cotangent: Tensor,
    weight: Tensor,
    maxima: Tensor,
    rests: Tensor,
    token: Tensor,
    x: Tensor,
    *_: Any,
) -> Tensor:
    return torch.empty_like(x)


@host_cross_entropy_gradient.register_fake
def _like_both(cotangent: Tensor | None, x: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    acc = torch.float64 if x.dtype == torch.float64 else torch.float32
    shape = x.shape[:-1] if others[-1] == "none" else ()
    return x.new_empty(shape, dtype=acc), torch.empty_like(x)


custom_op.differentiable(host_cross_entropy, host_cross_entropy_backward, 6, -1)


def _mapped(operation: Any, count: int) -> None:
    """Register what vmap does with an operation that returns `count` tensors.

    Rows are rows: an axis that is mapped over is one more of them, unless a whole call is reduced
    or class weights differ from call to call.
    """

    def rule(info: Any, dims: tuple[int | None, ...], *args: Any) -> Any:
        at = len(args) - _GIVEN - (count == _KEPT)
        shared = {at + 2, at + 5}  # the class weights, the normalizer
        if args[at + _GIVEN - 1] != "none" or any(dims[i] is not None for i in shared):
            return one_by_one(operation, info, dims, *args)
        out, where = mapped(operation, info, dims, *args, shared=shared)
        if count != _KEPT:
            return out, where
        stats = 0 if args[-1] == STATS else None  # what is empty has no axis to map over
        return out, (0, None, stats, stats, None)

    operation.register_vmap(rule)


_GIVEN, _KEPT = 12, 5  # arguments that every operation has; tensors that the first returns
for _operator, _count in (
    (host_cross_entropy, _KEPT),
    (host_cross_entropy_backward, 1),
    (host_cross_entropy_gradient, 2),
):
    _mapped(_operator, _count)
