"""The operation that torch.compile calls for a linear cross-entropy, and keeps whole.

An autograd.Function it cannot trace without a warning.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from ..._arrays.inspect import Array
from ...core.call import LossCall
from ...core.linear import Linear
from ..eager import dense as default
from ..eager.linear import NAMES, argument, evaluated, of_rows, rounded
from . import custom_op
from .linear_blocks import arguments, run

SCHEMA = (
    "(Tensor x, Tensor weight, Tensor? bias, Tensor targets, Tensor? class_weight, "
    "Tensor? sample_weight, Tensor? where, Tensor? indices, Tensor? normalizer, Tensor? up, "
    f"float? count, int? ignore_index, {custom_op.NUMBERS}, str reduction, "
    "int? block_rows, str? rest, bool[] wanted) -> (Tensor, Tensor, Tensor, Tensor, Tensor)"
)


def value(call: LossCall, arrays: tuple[Any, ...], recorded: bool) -> Array:
    """Return the loss by an operation that a compiler keeps whole."""
    wanted = [bool(recorded and a is not None and a.requires_grad) for a in arrays]
    made: Array = _asked(call, wanted)[0]
    return made


def value_and_grad(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and its gradients by the same operation."""
    flags = [name in wanted for name in NAMES]
    if call.options.reduction == "none":
        got = _asked(call, [False] * len(NAMES))[0]
        out = _asked(call, flags, torch.ones_like(got) if cotangent is None else cotangent)
    else:
        out = _asked(call, flags, cotangent)
        got = out[0]
    named = dict(zip(NAMES, out[1:], strict=True))
    return got, rounded(call, {name: named[name] for name in wanted})


def _asked(call: LossCall, wanted: list[bool], cotangent: Any = None) -> tuple[Array, ...]:
    """Ask the operation for the loss and for the gradients that are wanted."""
    made: tuple[Array, ...] = operation(*arguments_of(call, wanted, cotangent))
    return made


def arguments_of(call: LossCall, wanted: list[bool], cotangent: Any = None) -> tuple[Any, ...]:
    """Return a call as the operation takes it."""
    options, linear, n = call.options, call.linear, call.normalizer
    assert linear is not None
    tensor = torch.is_tensor(n)
    given = custom_op.arguments(call)
    return (
        *arguments(call),
        *given[2:5],
        call.operands.indices,
        n if tensor else None,
        cotangent,
        None if tensor or n is None else float(n),
        *given[5:],
        options.reduction,
        linear.block_rows,
        options.rest,
        wanted,
    )


def described(*args: Any) -> tuple[LossCall, Any, tuple[str, ...]]:
    """Return the call that an operation's arguments describe, its cotangent, and what it wants."""
    x, weight, bias, targets, *weights = args[:7]
    indices, normalizer, cotangent, count = args[7:11]
    reduction, rows, rest, wanted = args[15:]
    call = custom_op.described(x, targets, *weights, *args[11:15])
    options = call.options._replace(reduction=reduction, validate=False, engine=None, rest=rest)
    call = call._replace(
        name="linear_cross_entropy",
        options=options,
        operands=call.operands._replace(indices=indices),
        classes=weight.shape[0],
        normalizer=count if normalizer is None else normalizer,
        linear=Linear(weight, bias, rows),
    )
    return call, cotangent, tuple(name for name, want in zip(NAMES, wanted, strict=True) if want)


@torch.library.custom_op("xloss::linear_cross_entropy", mutates_args=(), schema=SCHEMA)
def operation(*args: Any) -> Any:
    """Return the loss and the gradients that are wanted; empty arrays in place of the others."""
    call, cotangent, wanted = described(*args)

    def none() -> Array:  # a new one each time: results of an operation share no memory
        return call.operands.x.new_empty(0)

    if call.options.reduction != "none":
        got, grads = evaluated(call, partial(run, call), wanted, cotangent)
    elif cotangent is None:
        got, grads = default.value(call, partial(run, call, ())), {}
    else:
        got, grads = none(), of_rows(partial(run, call), wanted, cotangent)
    grads = {name: _returned(g, argument(call, name)) for name, g in grads.items()}
    return got, *(grads[name] if name in grads else none() for name in NAMES)


def _returned(g: Array, a: Array) -> Array:
    """Return a gradient in the dtype that the fake kernel declares."""
    return g.to(a.dtype) if a.dtype == torch.bfloat16 and g.dtype == torch.float32 else g


@operation.register_fake
def _shapes(*args: Any) -> Any:
    # Nothing of xloss is called here: a compiler that traces must not depend on our caches.
    arrays, cotangent, reduction, wanted = args[:4], args[9], args[15], args[-1]
    x, targets = arrays[0], arrays[3]
    acc = torch.float64 if x.dtype == torch.float64 else torch.float32
    narrow = [a.dtype if a.dtype == torch.bfloat16 else acc for a in arrays[:2]]
    dtypes = (*narrow, torch.float64, targets.dtype)
    each = reduction == "none"
    late = each and cotangent is None
    shape = (0,) if each and not late else tuple(x.shape[:-1]) if each else ()

    def like(a: Any, dtype: Any, want: bool) -> Any:
        return x.new_empty(a.shape, dtype=dtype) if want and not late else x.new_empty(0)

    out = x.new_empty(shape, dtype=acc)
    return out, *map(like, arrays, dtypes, wanted)


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.options = inputs[10:]
    ctx.each = inputs[15] == "none"
    ctx.save_for_backward(*(inputs[:10] if ctx.each else (*inputs[:4], *output[1:])))


def _backward(ctx: Any, cotangent: Any, *_: Any) -> Any:
    saved = ctx.saved_tensors
    arrays, wanted = saved[:4], ctx.options[-1]
    if ctx.each:
        grads = operation(*saved[:9], cotangent, *ctx.options)[1:]
    else:
        # Not as a 0-d tensor: in bfloat16 the cotangent would be rounded before it multiplies.
        cotangent = cotangent.reshape(1)
        grads = [g * cotangent if w else None for g, w in zip(saved[4:], wanted, strict=True)]
    out = (g.to(a.dtype) if w else None for g, a, w in zip(grads, arrays, wanted, strict=True))
    return (*out, *(None,) * 15)


operation.register_autograd(_backward, setup_context=_setup)
