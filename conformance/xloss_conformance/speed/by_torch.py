"""PyTorch: eager, torch.compile, and what it has for a linear layer with its loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from ..conventions.torch import F
from .clock import Call
from .contenders import SOME, Contender, NotOffered, function
from .work import Data, Work


def tensors(work: Work, given: Data) -> tuple[Any, ...]:
    """Return the arguments as tensors on the same memory."""
    made: list[Any] = []
    for array in given:
        if array is None:
            made.append(None)
        elif array.dtype.name == "bfloat16":
            made.append(torch.from_numpy(array.view(np.int16)).view(torch.bfloat16))
        else:
            made.append(torch.from_numpy(array))
    return tuple(made)


def backward(
    loss: Callable[..., Any], arguments: tuple[Any, ...], options: Mapping[str, Any], leaves: int
) -> Call:
    """Return loss(*arguments).backward(), the gradient taken to the first arguments."""
    asked = [a.detach().requires_grad_() for a in arguments[:leaves]]
    given = (*asked, *arguments[leaves:])

    def run() -> Any:
        value = loss(*given, **options)
        value.backward()
        return value

    def before() -> None:
        for leaf in asked:
            leaf.grad = None

    def answer(got: Any) -> tuple[float, Any]:
        grad = asked[0].grad
        return float(got.detach()), grad.reshape(-1)[:SOME].double().numpy()

    return Call(run, before=before, answer=answer)


def linear(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the loss of a linear layer, as one writes it: all logits at once."""

    def loss(features: Any, weight: Any, labels: Any) -> Any:
        return function(torch.nn.functional.linear(features, weight), labels)

    return loss


def _call(loss: Callable[..., Any], work: Work, given: Data) -> Call:
    x, y, weight = tensors(work, given)
    arguments = (x, y) if weight is None else (x, weight, y)
    if work.gradient:
        return backward(loss, arguments, {}, 2 if work.features else 1)
    return Call(lambda: loss(*arguments))


def _loss(work: Work) -> Callable[..., Any]:
    loss = function("torch")
    if work.axis % len(work.shape) != min(1, len(work.shape) - 1):
        raise NotOffered("takes classes on axis 1")
    return linear(loss) if work.features else loss


def _eager(work: Work, given: Data, threads: int) -> Call:
    return _call(_loss(work), work, given)


def _compiled(work: Work, given: Data, threads: int) -> Call:
    torch.compiler.reset()  # beyond some shapes it would run eagerly
    return _call(torch.compile(_loss(work), fullgraph=True, dynamic=False), work, given)


def _linear(work: Work, given: Data, threads: int, chunked: bool = False) -> Call:
    own = getattr(torch.nn.functional, "linear_cross_entropy", None)
    if own is None or not work.features:
        raise NotOffered("is for linear_cross_entropy, from PyTorch 2.13 on")
    options: Any = {}
    if chunked:
        options["options"] = torch.nn.LinearCrossEntropyOptions()
    return _call(partial(own, **options), work, given)


def matmuls(work: Work, given: Data, rows: int) -> Call:
    """Make the products that the linear loss and its gradients stand on, so many rows at a time."""
    x, _, weight = tensors(work, given)
    logits = torch.empty((min(rows, len(x)), len(weight)), dtype=x.dtype)

    def run() -> Any:
        to_x, to_weight = torch.empty_like(x), torch.zeros_like(weight)
        for start in range(0, len(x), rows):
            part = x[start : start + rows]
            z = torch.matmul(part, weight.T, out=logits[: len(part)])
            if work.gradient:
                torch.matmul(z, weight, out=to_x[start : start + rows])
                to_weight.addmm_(z.T, part)
        return to_x, to_weight

    return Call(run)


CONTENDERS = {
    c.name: c
    for c in (
        Contender("torch", "torch", f"{F}.cross_entropy; .backward()", _eager, True),
        Contender(
            "torch.compile", "torch", "the same under torch.compile(dynamic=False)", _compiled, True
        ),
        Contender("torch linear", "torch", f"{F}.linear_cross_entropy", _linear, True),
        Contender(
            "torch linear, chunked",
            "torch",
            "the same with LinearCrossEntropyOptions()",
            partial(_linear, chunked=True),
            True,
        ),
    )
}
