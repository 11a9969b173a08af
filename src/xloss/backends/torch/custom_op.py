"""Row losses as an operation of PyTorch's: what a compiler keeps whole, the dispatcher handles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..._arrays.context import context
from ..._arrays.inspect import namespace
from ...core.call import LossCall
from ...core.options import Cotangent, Operands, Options, Outputs
from ...engines import asked_now, choose
from ...engines.cuda import engine as cuda

DEVICE = "cuda"
Result = TypeVar("Result")


def takes(call: LossCall) -> bool:
    """Tell whether a traced call is kept whole: where the CUDA engine will run it."""
    return (
        call.operands.x.device.type == DEVICE
        and keeps(call)
        and _available()
        and not transforming()
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


def asked_once(function: Callable[..., Result]) -> Callable[..., Result]:
    """Have a compiler call the function while it traces, and take what it returns for a constant.

    ``torch.compiler.assume_constant_result`` sets the same mark, and imports the compiler to do so:
    a second of everybody's first call, compiled or not.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


@asked_once
def exporting() -> bool:
    """Tell whether torch.export is at work: PyTorch says so from 2.7 on.

    Asked once, outside the trace: up to 2.12 Dynamo takes the answer for True wherever it traces,
    under torch.compile too, and no compiled graph would hold an operation of the engines'.
    """
    return bool(getattr(torch.compiler, "is_exporting", bool)())


@asked_once
def transforming() -> bool:
    """Tell whether torch.func is at work; a compiler enters its levels while it traces.

    An operation has no derivative in forward mode, and no rule of vmap's.
    """
    return torch._C._functorch.peek_interpreter_stack() is not None


@asked_once
def only_mapped() -> bool:
    """Tell whether nothing of torch.func is at work, but for vmap."""
    kind = torch._C._functorch.TransformType.Vmap
    levels = torch._C._functorch.get_interpreter_stack() or ()
    return all(level.key() == kind for level in levels)


@asked_once
def derivatives() -> int:
    """Return how many derivatives of torch.func follow the call, one of another."""
    kind = torch._C._functorch.TransformType
    levels = torch._C._functorch.get_interpreter_stack() or ()
    return sum(level.key() in (kind.Grad, kind.Jvp) for level in levels)


def refuse_second(where: str) -> None:
    """Refuse derivatives that operations whose first is put beside them do not have."""
    if derivatives() > 1:
        raise second(where)


def second(where: str) -> RuntimeError:
    """Return the error of whoever asks for a second derivative where there is only a first."""
    return RuntimeError(
        f"{where} follows a first derivative of a loss, no second: call it without, and the "
        "loss has derivatives of any order"
    )


@asked_once
def _available() -> bool:
    """Tell whether the engine is here and no other is asked for; a compiler asks once."""
    return asked_now() in (None, "cuda") and cuda.unavailable() is None


# What every operation is given, in the schema's types, but for the ignored label.
ARRAYS = "Tensor x, Tensor targets, Tensor? class_weight, Tensor? sample_weight, Tensor? where"
NUMBERS = "float label_smoothing, float z_loss, float? softcap"


def arguments(call: LossCall) -> tuple[Any, ...]:
    """Return the arrays and options of a call one by one, as an operation takes them."""
    s = call.options
    return (*call.operands[:5], s.ignore_index, s.label_smoothing, s.z_loss, s.softcap)


def described(*given: Any) -> LossCall:
    """Return the call of row losses that `arguments` stand for."""
    *arrays, ignore_index, label_smoothing, z_loss, softcap = given
    o = Operands(*arrays)
    options = Options(
        "cross_entropy",
        indexed=not arrays[1].is_floating_point(),
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        z_loss=z_loss,
        softcap=softcap,
        reduction="none",
        engine=asked_now(),
    )
    return LossCall("cross_entropy", options, context(o.x, namespace(o.x)), o, o.x.shape[-1])


# The same of an operation that makes the mean or the sum too. Whoever changes what an operation or
# its gradient takes or returns gives both other names: inductor keeps compiled graphs on disk,
# across versions of this package, finds them by the first's name, and calls both.
CALL_ARRAYS = f"{ARRAYS}, Tensor? normalizer, float? number"
CALL_OPTIONS = f"int? ignore_index, {NUMBERS}, str reduction"


def call_arguments(call: LossCall) -> tuple[Any, ...]:
    """Return all that a call is, one by one, as such an operation takes it."""
    given, n = arguments(call), call.normalizer
    number = isinstance(n, float)
    denominator = (None, n) if number else (n, None)
    return (*given[:5], *denominator, *given[5:], call.options.reduction)


def described_call(given: Sequence[Any]) -> LossCall:
    """Return the call that `call_arguments` stand for."""
    normalizer, number = given[5:7]
    call = described(*given[:5], *given[7:-1])
    options = call.options._replace(reduction=given[-1])
    return call._replace(options=options, normalizer=normalizer if number is None else number)


def differentiable(operation: Any, gradient: Any, arrays: int, last: int | None = None) -> None:
    """Register the operation that computes an operation's gradient.

    It takes the cotangent, all results of the first operation but the loss, the first's `arrays`
    arguments that are arrays or stand beside them, and its other arguments before `last`.
    """

    def keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*output[1:], *inputs[:arrays])
        ctx.options, ctx.none = inputs[arrays:last], (None,) * (len(inputs) - 1)
        ctx.set_materialize_grads(False)

    def backward(ctx: Any, cotangent: Tensor | None, *_: Any) -> tuple[Any, ...]:
        if cotangent is None:
            return None, *ctx.none
        return gradient(cotangent, *ctx.saved_tensors, *ctx.options), *ctx.none

    operation.register_autograd(backward, setup_context=keep)


def laid(g: Tensor, x: Tensor, like: Callable[[Tensor], Tensor] = torch.empty_like) -> Tensor:
    """Return a gradient that lies in memory as a compiler was told that it will."""
    if g.stride() == x.stride() and g.is_contiguous():
        return g
    want = like(x)
    return g if g.stride() == want.stride() else want.copy_(g)


def like_on_gpu(x: Tensor) -> Tensor:
    """Return an empty gradient to x as the CUDA engine makes it: in C order, or as x is.

    As x is where the classes of a row do not follow each other in memory.
    """
    kept: Any = torch.contiguous_format if x.stride(-1) == 1 else torch.preserve_format
    return torch.empty_like(x, memory_format=kept)


def rows(call: LossCall) -> Tensor:
    """Return row losses, differentiable once."""
    first: Tensor = cross_entropy_rows(*arguments(call))[0]
    return first


@torch.library.custom_op(
    "xloss::cross_entropy_rows",
    mutates_args=(),
    schema=f"({ARRAYS}, SymInt? ignore_index, {NUMBERS}) -> (Tensor, Tensor, Tensor)",
)
def cross_entropy_rows(*given: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return one loss a row of x (..., classes), and its maximum and rest."""
    call = described(*given)
    got = choose(call).run(call, Outputs(rows=True, stats=True))
    assert got.rows is not None
    assert got.stats is not None
    return got.rows, got.stats[0], got.stats[1]


@torch.library.custom_op(
    "xloss::cross_entropy_rows_gradient",
    mutates_args=(),
    schema=f"(Tensor cotangent, Tensor maxima, Tensor rests, {ARRAYS}, SymInt? ignore_index, "
    f"{NUMBERS}) -> Tensor",
)
def cross_entropy_rows_gradient(
    cotangent: Tensor, maxima: Tensor, rests: Tensor, *given: Any
) -> Tensor:
    """Return the gradient to x of the row losses times the cotangent, from saved statistics."""
    call = described(*given)
    made: Any = choose(call).run(call, Outputs(grad=True), Cotangent(cotangent), (maxima, rests))
    return laid(made.grad, given[0], like_on_gpu)


@cross_entropy_rows.register_fake
def _rows_like(x: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    acc = torch.float64 if x.dtype == torch.float64 else torch.float32
    shape = x.shape[:-1]
    rows = x.new_empty(shape, dtype=acc)
    return rows, x.new_empty(shape, dtype=acc), x.new_empty(shape, dtype=torch.float64)


@cross_entropy_rows_gradient.register_fake
def _like_x(cotangent: Tensor, maxima: Tensor, rests: Tensor, x: Tensor, *_: Any) -> Tensor:
    return like_on_gpu(x)


differentiable(cross_entropy_rows, cross_entropy_rows_gradient, 5)
