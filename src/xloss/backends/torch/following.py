"""PyTorch: who follows a call: torch.func, forward-mode autodiff, functionalize."""

from __future__ import annotations

import torch
from torch.autograd import forward_ad

from ...core.options import Operands
from . import custom_op


def transformed(o: Operands) -> bool:
    """Tell whether torch.func or forward-mode autodiff follows one of the operands.

    Under torch.compile nothing does: the compiler differentiates what it has traced.
    """
    if torch.compiler.is_compiling():
        return False
    return forward_ad._current_level >= 0 or followed(o)


def functionalized() -> bool:
    """Tell whether torch.func.functionalize is at work, which refuses an autograd.Function."""
    kind = torch._C._functorch.TransformType.Functionalize
    if all(one.key() != kind for one in torch._C._functorch.get_interpreter_stack() or ()):
        return False
    custom_op.refuse_second("torch.func.functionalize")
    return True


def followed(o: Operands) -> bool:
    """Tell whether torch.func follows one of the operands: labels and weights count too."""
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor
    return any(a is not None and wrapped(a) for a in o)
