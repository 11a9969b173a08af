"""Cross-entropy as an operation of PyTorch's, which torch.compile keeps whole.

A compiled graph holds its name and runs the compiled engine through it, as an uncompiled call does:
same bits, one pass over the logits forward and one back. On the host, of few classes, the gradient
is computed with the loss in one launch, and backward returns it where the cotangent is 1. On a GPU
the rows as an operation and the rest in the compiler's own kernels would launch a dozen of those,
each for a number a row at most: the host would take longer than the GPU takes for all logits.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor

from ..._arrays.context import context, read
from ..._arrays.inspect import Array, namespace
from ...core.call import LossCall
from ...core.options import Operands, Options, Outputs
from ...core.targets import bounds
from ...engines import asked_now, choose
from ...engines.cpu import engine as cpu
from ...engines.cuda import engine as cuda
from ..eager import dense as default
from . import autograd as torch_reduced
from . import gradient_ahead
from .autograd import GRADIENT, NOTHING, STATS, run
from .following import asked_once, exporting, levels, transforming
from .numpy_views import home, with_numpy_views
from .sizes import is_below
from .softmax_rules import mapped, one_by_one

DEVICE = "cuda"
LAUNCH = "launch"  # what the CUDA engine keeps, beside what `autograd` names

# What every operation is given. Whoever changes what an operation or its gradient takes or returns
# gives both other names: inductor keeps compiled graphs on disk, across versions of this package,
# finds them by the first's name, and calls both.
ARRAYS = (
    "Tensor x, Tensor targets, Tensor? class_weight, Tensor? sample_weight, Tensor? where, "
    "Tensor? normalizer"
)
NUMBERS = "SymInt? ignore_index, float label_smoothing, float z_loss, float? softcap, str reduction"
ARGUMENTS = f"{ARRAYS}, {NUMBERS}"
COUNT = 6  # arrays


def arguments(call: LossCall) -> tuple[Any, ...]:
    """Return all that a call is, one by one, as an operation takes it."""
    s = call.options
    numbers = (s.ignore_index, s.label_smoothing, s.z_loss, s.softcap, s.reduction)
    return (*call.operands[:5], call.normalizer, *numbers)


def described(*given: Any) -> LossCall:
    """Return the call that `arguments` stand for."""
    *arrays, normalizer, ignore, label_smoothing, z_loss, softcap, reduction = given
    o = Operands(*arrays)
    options = Options(
        "cross_entropy",
        indexed=not arrays[1].is_floating_point(),
        ignore_index=ignore,
        label_smoothing=label_smoothing,
        z_loss=z_loss,
        softcap=softcap,
        reduction=reduction,
        engine=asked_now(),
    )
    cx = context(o.x, namespace(o.x))
    return LossCall("cross_entropy", options, cx, o, o.x.shape[-1], normalizer=normalizer)


def _looked_at(call: LossCall) -> LossCall:
    """Return the call with its labels looked at, on the host, as outside a graph."""
    o, cx, ignore = call.operands, call.cx, call.options.ignore_index
    if not cx.on_host:
        return call
    clean = False
    if call.options.indexed:
        low, high = bounds(o.targets, cx)
        clean = low >= 0 and high < call.classes and (ignore is None or not low <= ignore <= high)
    return call._replace(cx=read(cx, clean))


def takes(call: LossCall) -> bool:
    """Tell whether a traced call is kept whole: where a compiled engine will run it."""
    device = call.operands.x.device.type
    return (
        torch.compiler.is_compiling()
        and device in ("cpu", DEVICE)
        and keeps(call)
        and _available(device)
        and set(levels()) <= {"Vmap"}
    )


def keeps(call: LossCall) -> bool:
    """Tell whether an operation has a place for what is asked for.

    It gives no gradient to soft targets, and its schema holds integers of 64 bits. A program that
    is exported runs where xloss may be missing: it is made of PyTorch's own operations.
    """
    t, s = call.operands.targets, call.options
    return (
        s.kind == "cross_entropy"
        and s.engine is None
        and call.operands.indices is None
        and not (t is not None and t.requires_grad and torch.is_grad_enabled())
        and (s.ignore_index is None or -(2**63) <= s.ignore_index < 2**63)
        and not exporting()
    )


@asked_once
def _available(device: str) -> bool:
    """Tell whether a device's engine is here and no other is asked for; a compiler asks once.

    A graph made where another engine is asked for holds plain operations from then on. One that
    holds the operation asks again whenever it runs.
    """
    engine = cuda if device == DEVICE else cpu
    return asked_now() in (None, engine.name) and engine.unavailable() is None


def value(call: LossCall) -> Tensor:
    """Return the loss of a call that is taken."""
    x = call.operands.x
    # What vmap maps over says of itself that it needs no gradient.
    recorded = torch.is_grad_enabled() and (x.requires_grad or transforming())
    loss: Tensor = cross_entropy(*arguments(call), _saved(call) if recorded else NOTHING)[0]
    return loss


def _saved(call: LossCall) -> str:
    """Say what a forward pass keeps for the backward pass."""
    of_rows = call.options.reduction == "none"
    if call.operands.x.device.type == DEVICE:
        return STATS if of_rows else LAUNCH
    if is_below(call.classes, cpu.save_stats_from):
        return NOTHING if of_rows else GRADIENT
    return STATS


def value_and_grad(call: LossCall, cotangent: Array | None) -> tuple[Array, Array]:
    """Return the loss of a call that is taken, and its gradient to the logits."""
    loss, gradient = cross_entropy_and_gradient(cotangent, *arguments(call))
    return loss, gradient


@torch.library.custom_op(
    "xloss::cross_entropy",
    mutates_args=(),
    schema=f"({ARGUMENTS}, str saves) -> (Tensor, Tensor[])",
)
def cross_entropy(*given: Any) -> tuple[Tensor, list[Tensor]]:
    """Return the loss, and what its gradient can start from.

    That is the rows' maxima and rests, or a token for the gradient to x, or what the CUDA engine
    keeps; after the first two the mean's denominator.
    """
    *rest, saves = given
    call = _looked_at(described(*rest))
    x, engine = call.operands.x, choose(call)
    if call.options.reduction == "none":
        got = run(call, Outputs(rows=True, stats=saves == STATS))
        assert got.rows is not None
        return got.rows, list(got.stats or ())
    if default.reduces(engine, call):
        loss, _, kept = engine.reduced(call, grad=False, keep=saves == LAUNCH)
        return loss, [] if kept is None else [kept]
    ahead = saves == GRADIENT and gradient_ahead.pays(engine, call.classes)
    made = torch_reduced.forward(call, saves if ahead or saves == STATS else NOTHING)
    if saves in (NOTHING, LAUNCH):  # no row, or another engine is asked for where the graph runs
        return made.value, [a.zero_() for a in _kept(x, "mean", saves)]
    stats = list(made.stats)
    if saves == GRADIENT:
        gradient = None if made.gradient is None else laid(made.gradient, x)
        stats = [gradient_ahead.token(gradient)]
    weight = 1.0 if made.weight is None else float(made.weight)
    return made.value, [*stats, torch.full((), weight, dtype=torch.float64)]


@torch.library.custom_op(
    "xloss::cross_entropy_backward",
    mutates_args=(),
    schema=f"(Tensor up, Tensor[] kept, {ARGUMENTS}, str saves) -> Tensor",
)
def cross_entropy_backward(cotangent: Tensor, kept: list[Tensor], *given: Any) -> Tensor:
    """Return the gradient to x times the cotangent, from what the loss kept."""
    *rest, saves = given
    ahead: Tensor | None = gradient_ahead.taken(kept[0]) if saves == GRADIENT else None
    if ahead is not None and gradient_ahead.is_one(cotangent):
        return ahead
    call = _looked_at(described(*rest))
    stats = tuple(kept[:2]) if saves == STATS else ()
    if call.options.reduction == "none":
        made = run(call, Outputs(grad=True), cotangent, stats or None).grad
    elif saves == LAUNCH and default.reduces(choose(call), call):
        cotangent, _ = torch_reduced.cotangent(cotangent, call.cx)
        made = cuda.again(call, call.operands[:5], cotangent, kept[0], None)
    else:
        known = call.options.reduction == "mean" and saves in (STATS, GRADIENT)
        made = torch_reduced.backward(call, cotangent, float(kept[-1]) if known else None, stats)
    return laid(home(made), call.operands.x)


@torch.library.custom_op(
    "xloss::cross_entropy_and_gradient",
    mutates_args=(),
    schema=f"(Tensor? up, {ARGUMENTS}) -> (Tensor, Tensor)",
)
def cross_entropy_and_gradient(cotangent: Tensor | None, *given: Any) -> tuple[Tensor, Tensor]:
    """Return the loss and its gradient to x times the cotangent."""
    call, cotangent = with_numpy_views(_looked_at(described(*given)), cotangent)
    loss, grads = default.value_and_grad(call, ("x",), cotangent)
    return home(loss), laid(home(grads["x"]), given[0])


def laid(g: Tensor, x: Tensor) -> Tensor:
    """Return a gradient that lies in memory as a compiler was told that it will."""
    if g.stride() == x.stride() and g.is_contiguous():
        return g
    want = _like(x)
    return g if g.stride() == want.stride() else want.copy_(g)


def _like(x: Tensor) -> Tensor:
    """Return an empty gradient to x as an engine makes it: as x is.

    The CUDA engine's is in C order, unless the classes of a row lie apart in memory.
    """
    in_order = x.device.type == DEVICE and x.stride(-1) == 1
    kept: Any = torch.contiguous_format if in_order else torch.preserve_format
    return torch.empty_like(x, memory_format=kept)


def _loss_of(x: Tensor, reduction: str) -> Tensor:
    """Return an empty loss."""
    acc = torch.float64 if x.dtype == torch.float64 else torch.float32
    return x.new_empty(x.shape[:-1] if reduction == "none" else (), dtype=acc)


def _kept(x: Tensor, reduction: str, saves: str) -> list[Tensor]:
    """Return empty tensors of the dtypes and shapes that a loss keeps."""

    def wide(*shape: Any) -> Tensor:
        return x.new_empty(shape, dtype=torch.float64)

    rows = x.shape[:-1]
    if saves == LAUNCH:
        return [wide(2 + 2 * prod(rows))]
    kept = {NOTHING: [], STATS: [_loss_of(x, "none"), wide(*rows)], GRADIENT: [wide(1)]}[saves]
    return [*kept, wide()] if kept and reduction != "none" else kept


@cross_entropy.register_fake
def _fake(x: Tensor, *others: Any) -> tuple[Tensor, list[Tensor]]:
    reduction, saves = others[-2:]
    return _loss_of(x, reduction), _kept(x, reduction, saves)


@cross_entropy_backward.register_fake
def _fake_backward(cotangent: Tensor, kept: list[Tensor], x: Tensor, *_: Any) -> Tensor:
    return _like(x)


@cross_entropy_and_gradient.register_fake
def _fake_both(cotangent: Tensor | None, x: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    return _loss_of(x, others[-1]), _like(x)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, list[Tensor]]) -> None:
    ctx.save_for_backward(*inputs[:COUNT], *output[1])
    ctx.options = inputs[COUNT:]
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, cotangent: Tensor, _: Any) -> tuple[Any, ...]:
    arrays, kept = ctx.saved_tensors[:COUNT], list(ctx.saved_tensors[COUNT:])
    gradient = cross_entropy_backward(cotangent, kept, *arrays, *ctx.options)
    return gradient, *(None,) * (COUNT + len(ctx.options) - 1)


cross_entropy.register_autograd(_backward, setup_context=_keep)


def _mapped(operation: Any, first: int) -> None:
    """Register what vmap does with an operation whose argument x is the one of this number.

    Rows are rows: an axis that is mapped over is one more of them, unless a whole call is reduced
    or class weights differ from call to call.
    """

    def rule(info: Any, dims: tuple[int | None, ...], *args: Any) -> Any:
        shared = {first + 2, first + 5}  # the class weights, the normalizer
        if args[first + 10] != "none" or any(dims[i] is not None for i in shared):
            return one_by_one(operation, info, dims, *args)
        return mapped(operation, info, dims, *args, shared=shared)

    operation.register_vmap(rule)


_mapped(cross_entropy, 0)
_mapped(cross_entropy_and_gradient, 1)
