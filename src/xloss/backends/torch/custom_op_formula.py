"""Row losses where no compiled engine takes them: an operation that a compiler sees through.

PyTorch's compiler traces an autograd.Function with a warning of its own, and what is differentiated
without one keeps arrays of the logits' size. The rule of this operation's gradient is PyTorch's
own to follow: its compiler meets the plain operations of both passes and fuses each; of labels a
few numbers a row are saved. No graph that runs holds the operation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..._arrays.context import context, functional
from ..._arrays.inspect import namespace
from ...core.call import LossCall
from ...core.family import evaluate
from ...core.options import Cotangent, Operands, Options, Outcome, Outputs
from . import custom_op


def takes(call: LossCall) -> bool:
    """Tell whether a traced call has its gradient by a rule: what torch.func follows has not."""
    return torch.compiler.is_compiling() and custom_op.keeps(call) and not custom_op.transforming()


def rows(call: LossCall) -> Tensor:
    """Return row losses, differentiable once."""
    made: Tensor = torch.ops.xloss.cross_entropy_formula(*custom_op.arguments(call))
    return made


def _evaluated(
    o: Operands, options: Options, outputs: Outputs, cotangent: Any = 1.0, stats: Any = None
) -> Outcome:
    cx = functional(context(o.x, namespace(o.x)))
    return evaluate(o, options, cx, o.x.shape[-1], outputs, Cotangent(cotangent), stats)


class _Rows(torch.autograd.Function):
    """Row losses; saves its inputs and two numbers a row."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        o, ctx.options = Operands(*args[:5]), args[5]
        got = _evaluated(o, ctx.options, Outputs(rows=True, stats=True))
        assert got.stats is not None
        ctx.save_for_backward(*o[:5], *got.stats)
        return got.rows

    @staticmethod
    def backward(ctx: Any, cotangent: Any) -> Any:
        if torch.is_grad_enabled():
            raise custom_op.second("torch.compile")
        *arrays, maxima, rests = ctx.saved_tensors
        made = _evaluated(
            Operands(*arrays), ctx.options, Outputs(grad=True), cotangent, (maxima, rests)
        )
        return made.grad, *(None,) * 5


def _recorded(*given: Any) -> Any:
    o, options = custom_op.described(*given)
    if torch.is_grad_enabled() and o.x.requires_grad:
        return _Rows.apply(*o[:5], options)  # type: ignore[no-untyped-call]
    return _evaluated(o, options, Outputs(rows=True)).rows


def _plain(*given: Any) -> Any:
    o, options = custom_op.described(*given)
    return _evaluated(o, options, Outputs(rows=True)).rows


_LIBRARY: Any = torch.library.Library("xloss", "FRAGMENT")  # type: ignore[no-untyped-call]
_LIBRARY.define(
    f"cross_entropy_formula({custom_op.ARRAYS}, int? ignore_index, {custom_op.NUMBERS}) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)
_LIBRARY.impl("cross_entropy_formula", _recorded, "Autograd")
_LIBRARY.impl("cross_entropy_formula", _plain, "CompositeExplicitAutograd")
