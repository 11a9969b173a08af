"""PyTorch: the blocks of a linear cross-entropy, which both autograd and torch.compile call."""

from __future__ import annotations

from typing import Any

import torch

from ..._arrays.context import Context
from ..._arrays.inspect import Array
from ...core.call import LossCall
from ...core.linear import one_row_axis
from ...core.options import UNIT_COTANGENT, Cotangent, Operands, Options, Outcome, Outputs
from ..eager import linear as eager_linear
from ..eager.linear_blocks import Stage
from . import linear_products, numpy_views

eager_linear.PRODUCTS["torch"] = linear_products.products


def run(
    call: LossCall, parts: tuple[str, ...], outputs: Outputs, cotangent: Cotangent = UNIT_COTANGENT
) -> Outcome:
    """Compute the blocks with autograd off: products by torch, on the host rows on NumPy views."""
    with torch.no_grad():
        o = one_row_axis(call.operands, call.classes, call.cx)
        stage = _stage(call.options, call.cx, o)
        made = eager_linear.run(call, parts, outputs, cotangent, stage)
    return made._replace(total=_tensor(made.total))


def _tensor(a: Any) -> Any:
    return a if a is None or torch.is_tensor(a) else numpy_views.tensor(a)


def _stage(options: Options, cx: Context, o: Operands) -> Stage:
    """Choose where rows are computed: on the host NumPy's elementwise operations beat torch's."""
    views = None
    if options.engine is None and cx.on_host:
        views = numpy_views.views(o._replace(x=o.x[:0, ...].to(cx.compute_dtype)))
    if views is None:
        return Stage(cx, o, lambda a: a, lambda a: a)
    return Stage(numpy_views.numpy_context(views.x, cx), views, _view, numpy_views.tensor)


def _view(a: Array | None) -> Array | None:
    if a is None:
        return None
    return numpy_views.view(a.float() if a.dtype == torch.bfloat16 else a)


def arguments(call: LossCall) -> tuple[Any, ...]:
    """Return the arrays that may have a gradient, in the order of NAMES."""
    o, linear = call.operands, call.linear
    assert linear is not None
    return o.x, linear.weight, linear.bias, o.targets


def without(call: LossCall) -> LossCall:
    """Return the call without those arrays, for autograd to keep."""
    assert call.linear is not None
    bare = call.linear._replace(weight=None, bias=None)
    return call._replace(operands=call.operands._replace(x=None, targets=None), linear=bare)


def with_arrays(call: LossCall, arrays: Any) -> LossCall:
    """Return the call with those arrays."""
    assert call.linear is not None
    x, weight, bias, targets = arrays
    linear = call.linear._replace(weight=weight, bias=bias)
    return call._replace(operands=call.operands._replace(x=x, targets=targets), linear=linear)
