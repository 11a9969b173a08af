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
from ...core.options import Outputs
from ...core.token_stats import Tokens, of_fields
from ..eager import dense as default
from ..eager.linear import NAMES, argument, evaluated, rounded
from . import custom_op
from .linear_blocks import run

# The arguments of a cross-entropy, of which x are the features, and those of a linear one.
SCHEMA = (
    f"({custom_op.ARRAYS}, Tensor weight, Tensor? bias, Tensor? indices, Tensor? up, "
    f"{custom_op.NUMBERS}, int? block_rows, str? rest, bool[] wanted, bool? rank) -> Tensor[]"
)
_PLACES = (0, 6, 7, 1)  # where the arguments of NAMES stand


def value(call: LossCall, arrays: tuple[Any, ...], recorded: bool) -> Array:
    """Return the loss by an operation that a compiler keeps whole."""
    wanted = [bool(recorded and a is not None and a.requires_grad) for a in arrays]
    return _asked(call, wanted)[0]


def value_and_grad(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and its gradients by the same operation."""
    flags = [name in wanted for name in NAMES]
    if call.options.reduction == "none":
        got = _asked(call, [False] * len(NAMES))[0]
        made = _asked(call, flags, torch.ones_like(got) if cotangent is None else cotangent)
    else:
        made = _asked(call, flags, cotangent)
        got = made[0]
    named = zip((n for n in NAMES if n in wanted), made[1:], strict=True)
    return got, rounded(call, dict(named))


def tokens(call: LossCall, asked: Outputs) -> tuple[Array, Tokens]:
    """Return row losses and the numbers beside them by the same operation."""
    rows, *made = _asked(call, [False] * len(NAMES), rank=asked.rank)
    return rows, of_fields((a.detach() for a in made), asked)


def _asked(
    call: LossCall, wanted: list[bool], cotangent: Any = None, rank: bool | None = None
) -> list[Array]:
    """Ask the operation for the loss and the gradients that are wanted, or for the statistics."""
    linear, o = call.linear, call.operands
    assert linear is not None
    given, last = custom_op.arguments(call), (linear.block_rows, call.options.rest, wanted, rank)
    arrays = (*given[: custom_op.COUNT], linear.weight, linear.bias, o.indices, cotangent)
    made: list[Array] = operation(*arrays, *given[custom_op.COUNT :], *last)
    return made


def _described(*args: Any) -> tuple[LossCall, Any, tuple[str, ...], bool | None]:
    """Return the call that an operation's arguments describe, and what is asked for."""
    *arrays, weight, bias, indices, cotangent = args[:10]
    *numbers, block_rows, rest, wanted, rank = args[10:]
    call = custom_op.described(*arrays, *numbers)
    call = call._replace(
        name="linear_cross_entropy",
        options=call.options._replace(validate=False, engine=None, rest=rest),
        operands=call.operands._replace(indices=indices),
        classes=weight.shape[0],
        linear=Linear(weight, bias, block_rows),
    )
    names = tuple(name for name, want in zip(NAMES, wanted, strict=True) if want)
    return call, cotangent, names, rank


@torch.library.custom_op("xloss::linear_loss", mutates_args=(), schema=SCHEMA)
def operation(*args: Any) -> list[Array]:
    """Return the loss, and the gradients that are wanted or the fields of Tokens."""
    call, cotangent, wanted, rank = _described(*args)
    if rank is not None:
        asked = Outputs(rows=True, tokens=True, entropy=True, rank=rank)
        rows, made = default.tokens(call, asked, partial(run, call, ()))
        return [rows, *(a for a in made if a is not None)]
    each = call.options.reduction == "none"
    if each and cotangent is None:
        return [default.value(call, partial(run, call, ()))]
    got, grads = evaluated(call, partial(run, call), wanted, cotangent, value=not each)
    got = call.operands.x.new_empty(0) if got is None else got
    return [got, *(_returned(grads[name], argument(call, name)) for name in wanted)]


def _returned(g: Array, a: Array) -> Array:
    """Return a gradient in the dtype that the fake kernel declares."""
    return g.to(a.dtype) if a.dtype == torch.bfloat16 and g.dtype == torch.float32 else g


@operation.register_fake
def _shapes(*args: Any) -> list[Array]:
    # Nothing of xloss is called here: a compiler that traces must not depend on our caches.
    x, cotangent, reduction, wanted, rank = args[0], args[9], args[14], args[17], args[18]
    acc = torch.float64 if x.dtype == torch.float64 else torch.float32
    rows = tuple(x.shape[:-1])
    if rank is not None:
        kinds = dict.fromkeys(("loss", *Tokens._fields), acc)
        kinds |= {"correct": torch.bool, "weight": torch.float64, "rank": torch.int64}
        if not rank:
            del kinds["rank"]
        return [x.new_empty(rows, dtype=kind) for kind in kinds.values()]
    each = reduction == "none"
    shape = () if not each else rows if cotangent is None else (0,)
    out = [x.new_empty(shape, dtype=acc)]
    if each and cotangent is None:
        return out
    for place, want in zip(_PLACES, wanted, strict=True):
        if want:
            a = args[place]
            narrow = a.dtype if a.dtype == torch.bfloat16 else acc
            dtype = {1: a.dtype, 7: torch.float64}.get(place, narrow)
            out.append(x.new_empty(a.shape, dtype=dtype))
    return out


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.options, ctx.each = inputs[10:17], inputs[14] == "none"
    ctx.dtypes = [None if inputs[i] is None else inputs[i].dtype for i in _PLACES]
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*(inputs[:9] if ctx.each else output[1:]))


def _backward(ctx: Any, cotangents: Any) -> Any:
    out: list[Any] = [None] * 19
    cotangent, wanted = cotangents[0], [ctx.needs_input_grad[i] for i in _PLACES]
    if cotangent is None:
        return tuple(out)
    if ctx.each:
        grads = operation(*ctx.saved_tensors, cotangent, *ctx.options, wanted, None)[1:]
    else:
        # Not as a 0-d tensor: in bfloat16 the cotangent would be rounded before it multiplies.
        grads = [g * cotangent.reshape(1) for g in ctx.saved_tensors]
    made = iter(grads)
    for place, dtype, want in zip(_PLACES, ctx.dtypes, wanted, strict=True):
        out[place] = next(made).to(dtype) if want else None
    return tuple(out)


operation.register_autograd(_backward, setup_context=_setup)
