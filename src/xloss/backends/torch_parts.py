"""PyTorch: softmax and sigmoid with derivative rules of their own, for formulas of any order."""

from __future__ import annotations

from typing import Any

import torch

from .._xp import context, functional, namespace
from ..core import elements as binary
from ..core import softmax


def softmax_parts(z: Any) -> softmax.Parts:
    """Return softmax.parts of a tensor, recorded."""
    return softmax.Parts(*_SoftmaxParts.apply(z))  # type: ignore[no-untyped-call]


def sigmoid_parts(z: Any) -> binary.Sigmoid:
    """Return elements.sigmoid of a tensor, recorded."""
    return binary.Sigmoid(*_SigmoidParts.apply(z))  # type: ignore[no-untyped-call]


def _plus(*terms: Any) -> Any:
    """Add what is there of the terms; None where nothing is."""
    out = None
    for term in terms:
        if term is not None:
            out = term if out is None else out + term
    return out


class _SoftmaxParts(torch.autograd.Function):
    """(lse, -log p, p, 1 - p) of the rows of z, with their derivatives by p itself."""

    generate_vmap_rule = True

    @staticmethod
    def forward(z: Any) -> Any:
        got = softmax.parts(z, functional(context(z, namespace(z))))
        return got.lse, got.nll, got.p, got.q

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(output[2])
        ctx.save_for_forward(output[2])

    @staticmethod
    def backward(ctx: Any, lse: Any, nll: Any, p: Any, q: Any) -> Any:
        (prob,) = ctx.saved_tensors
        back = _plus(p, None if q is None else -q)
        out = None
        if back is not None:
            out = prob * (back - (prob * back).sum(-1, keepdim=True))
        share = _plus(lse, None if nll is None else nll.sum(-1))
        if share is not None:
            out = _plus(out, prob * share.unsqueeze(-1))
        return out if nll is None else _plus(out, -nll)

    @staticmethod
    def jvp(ctx: Any, v: Any) -> Any:
        (p,) = ctx.saved_tensors
        average = (p * v).sum(-1, keepdim=True)
        moved = p * (v - average)
        return average.squeeze(-1), average - v, moved, -moved


class _SigmoidParts(torch.autograd.Function):
    """(p, 1 - p, softplus(z), softplus(-z)), with their derivatives by p and 1 - p."""

    generate_vmap_rule = True

    @staticmethod
    def forward(z: Any) -> Any:
        got = binary.sigmoid(z, functional(context(z, namespace(z))))
        return got.p, got.q, got.rise, got.fall

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(output[0], output[1])
        ctx.save_for_forward(output[0], output[1])

    @staticmethod
    def backward(ctx: Any, p: Any, q: Any, rise: Any, fall: Any) -> Any:
        one, other = ctx.saved_tensors
        back = _plus(p, None if q is None else -q)
        return _plus(
            None if back is None else one * other * back,
            None if rise is None else one * rise,
            None if fall is None else -other * fall,
        )

    @staticmethod
    def jvp(ctx: Any, v: Any) -> Any:
        p, q = ctx.saved_tensors
        moved = p * q * v
        return moved, -moved, p * v, -q * v
