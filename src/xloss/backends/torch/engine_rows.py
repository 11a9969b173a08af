"""PyTorch: rows by the engine, on the tensors or on NumPy views of them."""

from __future__ import annotations

from typing import Any

from ...core.call import LossCall
from ...core.options import Cotangent, Outcome, Outputs, Saved
from ...engines import choose
from . import autograd as torch_reduced
from .numpy_views import numpy_call, tensor, view


def run(call: LossCall, outputs: Outputs, cotangent: Any = 1.0, saved: Saved = None) -> Outcome:
    """Compute the outputs; on the host NumPy's operations beat torch's own."""
    if not isinstance(cotangent, float):
        cotangent, cx = torch_reduced.cotangent(cotangent, call.cx)
        call = call._replace(cx=cx)
    twin = numpy_call(call)
    if twin is None:
        return choose(call).run(call, outputs, Cotangent(cotangent), saved)
    cotangent = cotangent if isinstance(cotangent, float) else view(cotangent)
    known = None if saved is None else tuple(map(view, saved))
    return choose(twin).run(twin, outputs, Cotangent(cotangent), known).map(tensor)
