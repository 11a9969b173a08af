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

from ..._arrays.context import functional
from ...core.call import LossCall
from ...core.family import evaluate
from ...core.options import Cotangent, Outcome, Outputs
from . import custom_op
from .following import second, transforming


def takes(call: LossCall) -> bool:
    """Tell whether a traced call has its gradient by a rule: what torch.func follows has not."""
    return torch.compiler.is_compiling() and custom_op.keeps(call) and not transforming()


def rows(call: LossCall) -> Tensor:
    """Return row losses, differentiable once."""
    made: Tensor = torch.ops.xloss.cross_entropy_formula(*custom_op.arguments(call))
    return made


def _evaluated(given: Any, outputs: Outputs, cotangent: Any = 1.0, stats: Any = None) -> Outcome:
    call = custom_op.described(*given)
    o, cx, up = call.operands, functional(call.cx), Cotangent(cotangent)
    return evaluate(o, call.options, cx, call.classes, outputs, up, stats)


class _Rows(torch.autograd.Function):
    """Row losses; saves its inputs and two numbers a row."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> Any:
        got = _evaluated(given, Outputs(rows=True, stats=True))
        assert got.stats is not None
        ctx.options = given[5:]
        ctx.save_for_backward(*given[:5], *got.stats)
        return got.rows

    @staticmethod
    def backward(ctx: Any, cotangent: Any) -> Any:
        if torch.is_grad_enabled():
            raise second("torch.compile")
        *arrays, maxima, rests = ctx.saved_tensors
        given = (*arrays, *ctx.options)
        made = _evaluated(given, Outputs(grad=True), cotangent, (maxima, rests))
        return made.grad, *(None,) * (len(given) - 1)


def _recorded(*given: Any) -> Any:
    if torch.is_grad_enabled() and given[0].requires_grad:
        return _Rows.apply(*given)  # type: ignore[no-untyped-call]
    return _plain(*given)


def _plain(*given: Any) -> Any:
    return _evaluated(given, Outputs(rows=True)).rows


_LIBRARY: Any = torch.library.Library("xloss", "FRAGMENT")  # type: ignore[no-untyped-call]
_LIBRARY.define(
    f"cross_entropy_formula({custom_op.ARGUMENTS}) -> Tensor", tags=(torch.Tag.pt2_compliant_tag,)
)
_LIBRARY.impl("cross_entropy_formula", _recorded, "Autograd")
_LIBRARY.impl("cross_entropy_formula", _plain, "CompositeExplicitAutograd")
