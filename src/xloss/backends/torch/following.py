"""PyTorch: who follows a call: a compiler, torch.func, forward-mode autodiff, functionalize."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch.autograd import forward_ad

from ..._arrays.inspect import in_torch_func
from ...core.options import Operands

Result = TypeVar("Result")

_functorch = torch._C._functorch


def asked_once(function: Callable[..., Result]) -> Callable[..., Result]:
    """Have a compiler call the function while it traces, and take what it returns for a constant.

    ``torch.compiler.assume_constant_result`` sets the same mark, and imports the compiler to do so:
    a second of everybody's first call, compiled or not.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


@asked_once
def exporting() -> bool:
    """Tell whether torch.export is at work: PyTorch says so from 2.7 on.

    Asked once, outside the trace: up to 2.12 Dynamo takes the answer for True wherever it traces,
    under torch.compile too, and no compiled graph would hold an operation of the engines'.
    """
    return bool(getattr(torch.compiler, "is_exporting", bool)())


@asked_once
def transforming() -> bool:
    """Tell whether torch.func is at work; a compiler enters its levels while it traces.

    An operation has no derivative in forward mode.
    """
    return in_torch_func()


@asked_once
def levels() -> list[str]:
    """Return the transformations of torch.func that are at work, each by its kind."""
    return [level.key().name for level in _functorch.get_interpreter_stack() or ()]


def refuse_second(where: str) -> None:
    """Refuse derivatives that operations whose first is put beside them do not have."""
    if sum(kind in ("Grad", "Jvp") for kind in levels()) > 1:
        raise second(where)


def second(where: str) -> RuntimeError:
    """Return the error of whoever asks for a second derivative where there is only a first."""
    return RuntimeError(
        f"{where} follows a first derivative of a loss, no second: call it without, and the "
        "loss has derivatives of any order"
    )


def transformed(o: Operands) -> bool:
    """Tell whether torch.func or forward-mode autodiff follows one of the operands.

    Under torch.compile nothing does: the compiler differentiates what it has traced.
    """
    if torch.compiler.is_compiling():
        return False
    return forward_ad._current_level >= 0 or followed(o)


def functionalized() -> bool:
    """Tell whether torch.func.functionalize is at work, which refuses an autograd.Function."""
    if "Functionalize" not in levels():
        return False
    refuse_second("torch.func.functionalize")
    return True


def followed(o: Operands) -> bool:
    """Tell whether torch.func follows one of the operands: labels and weights count too."""
    wrapped = _functorch.is_functorch_wrapped_tensor
    return any(a is not None and wrapped(a) for a in o)
