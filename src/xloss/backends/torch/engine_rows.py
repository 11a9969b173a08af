"""PyTorch: rows by the engine, on the tensors or on NumPy views of them."""

from __future__ import annotations

from typing import Any

from ..._arrays.context import Context
from ..._arrays.inspect import Array
from ...core.options import Cotangent, Operands, Options, Outcome, Outputs
from ...engines import choose
from . import autograd as torch_reduced
from .numpy_views import numpy_context, tensor, view, views


def run(
    o: Operands,
    options: Options,
    cx: Context,
    classes: int,
    outputs: Outputs,
    cotangent: Any = 1.0,
    saved: tuple[Array, ...] | None = None,
) -> Outcome:
    """Compute the outputs; on the host NumPy's operations beat torch's own."""
    if not isinstance(cotangent, float):
        cotangent, cx = torch_reduced.cotangent(cotangent, cx)
    twin = views(o) if options.engine is None and cx.on_host else None
    if twin is None:
        return choose(o, options, cx).run(
            o, options, cx, classes, outputs, Cotangent(cotangent), saved
        )
    cx = numpy_context(twin.x, cx)
    cotangent = cotangent if isinstance(cotangent, float) else view(cotangent)
    known = None if saved is None else tuple(map(view, saved))
    got = choose(twin, options, cx).run(
        twin, options, cx, classes, outputs, Cotangent(cotangent), known
    )
    return Outcome(
        rows=None if got.rows is None else tensor(got.rows),
        grad=None if got.grad is None else tensor(got.grad),
        grad_targets=None if got.grad_targets is None else tensor(got.grad_targets),
        stats=None if got.stats is None else tuple(map(tensor, got.stats)),
        tokens=None
        if got.tokens is None
        else tuple(None if a is None else tensor(a) for a in got.tokens),
    )
