"""PyTorch on the host: the same memory seen by NumPy, and NumPy's results as tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..._arrays.context import Context, context, read
from ..._arrays.inspect import Array, has_memory, namespace
from ...core.call import LossCall
from ...core.options import Operands


def numpy_call(call: LossCall) -> LossCall | None:
    """Return the call on NumPy views of its tensors, or None where they have none.

    On the host NumPy's elementwise operations take a third of the time of torch's own, and give
    the same bits whatever the batch. Asking for the generic engine keeps torch's namespace.
    """
    if call.options.engine is not None or not call.cx.on_host:
        return None
    o = views(call.operands)
    if o is None:
        return None
    n = call.normalizer
    cx = numpy_context(o.x, call.cx)
    return call._replace(cx=cx, operands=o, normalizer=view(n) if torch.is_tensor(n) else n)


def with_numpy_views(call: LossCall, *arrays: Any) -> tuple[Any, ...]:
    """Return the call and arrays beside it, on NumPy views where the tensors have them."""
    twin = numpy_call(call)
    if twin is None:
        return call, *arrays
    return twin, *(view(a) if torch.is_tensor(a) else a for a in arrays)


def numpy_context(x: Array, cx: Context) -> Context:
    """Return the context of a NumPy view that stands for a tensor of this context."""
    made = context(x, namespace(x))
    return read(made, cx.labels_verified) if cx.values_readable or cx.labels_verified else made


def views(o: Operands) -> Operands | None:
    """Return the operands as NumPy views; None for a dtype or a kind of tensor without one."""
    made = []
    for a in o:
        if a is not None and (a.dtype == torch.bfloat16 or not has_memory(a)):
            return None
        made.append(None if a is None else view(a))
    return Operands(*made)


def view(a: Array) -> Array:
    """Return a tensor's memory as a NumPy array."""
    return a.detach().numpy() if a.requires_grad else a.numpy()


def tensor(a: Array) -> Array:
    """Return a tensor on a NumPy array's memory, or of a NumPy scalar."""
    return torch.from_numpy(np.asarray(a))


def home(a: Array) -> Array:
    """Return a result as a tensor, which it may be already."""
    return a if torch.is_tensor(a) else tensor(a)
