"""Quack and Liger on PyTorch's GPU, where they are installed; imported with the first call."""

from __future__ import annotations

from typing import Any

from xloss_conformance.timing import Call

from ..contenders import Contender, SameValue
from ..work import Data, Work
from . import check
from .on_torch import OWN, Device, first_calls, read, trained

__all__ = ["CONTENDERS", "Device", "first_calls", "quack_first_calls"]


def quack_first_calls(device: str, dtype: str, classes: int) -> None:
    """Call Quack in every way that is timed, on few rows; it keeps on disk what it compiles."""
    import torch
    from quack.cross_entropy import cross_entropy, cross_entropy_fwd

    x: Any = torch.zeros(2, classes, dtype=getattr(torch, dtype), device=device)
    y = torch.zeros(2, dtype=torch.int64, device=device)
    cross_entropy_fwd(x, y)
    cross_entropy_fwd(x, y, return_dx=True)
    cross_entropy(x.requires_grad_(), y).backward()


def _quack(work: Work, given: Data, threads: int) -> Call:
    from quack.cross_entropy import cross_entropy_fwd

    x, y, _ = given
    rows = len(y)

    def run() -> Any:
        got = cross_entropy_fwd(x, y, return_dx=work.gradient)
        of, gradient = got if work.gradient else (got, None)
        return of, of.mean(), gradient

    def answer(got: Any) -> tuple[float, Any]:
        _, mean, gradient = got
        # Its gradient is the sum's.
        return float(mean), None if gradient is None else read(work, gradient) / rows

    def losses() -> Any:
        return run()[0].double().cpu().numpy()[check.rows_read(work)]

    return Call(run, answer=answer, losses=losses)


def _quack_autograd(work: Work, given: Data, threads: int) -> Call:
    from quack.cross_entropy import cross_entropy

    if not work.gradient:
        raise SameValue("Quack")
    return trained(cross_entropy, work, given)


def _liger(work: Work, given: Data, threads: int) -> Call:
    from liger_kernel.ops.cross_entropy import LigerCrossEntropyFunction
    from liger_kernel.ops.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyFunction

    if work.features:

        def fused(features: Any, weight: Any, labels: Any) -> Any:
            return LigerFusedLinearCrossEntropyFunction.apply(features, weight, labels)[0]

        return trained(fused, work, given)

    def loss(logits: Any, labels: Any, reduction: str = "mean") -> Any:
        options = (None, -100, 0.0, 0.0, reduction)
        return LigerCrossEntropyFunction.apply(logits, labels, *options)[0]

    # It writes the gradient over the logits: they are a copy of its own, which later turns find
    # changed. That costs no time more or less.
    logits: Any = given.x
    own = given._replace(x=logits.clone()) if work.gradient else given
    call = trained(loss, work, own)
    return Call(call.run, call.before, answer=call.answer, losses=None)


CONTENDERS = {
    c.name: c
    for c in (
        *OWN,
        Contender(
            "Quack",
            "torch",
            "quack.cross_entropy.cross_entropy_fwd(return_dx=...)",
            _quack,
            True,
            "quack-kernels",
        ),
        Contender(
            "Quack, autograd",
            "torch",
            "quack.cross_entropy; .backward()",
            _quack_autograd,
            True,
            "quack-kernels",
        ),
        Contender(
            "Liger",
            "torch",
            "liger_kernel.ops: LigerCrossEntropyFunction; of a linear layer "
            "LigerFusedLinearCrossEntropyFunction",
            _liger,
            True,
            "liger-kernel",
        ),
    )
}
