"""PyTorch: softmax and sigmoid with derivative rules of their own, for formulas of any order."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import forward_ad
from torch.utils._pytree import tree_map

from ..._arrays.context import context, functional
from ..._arrays.inspect import namespace
from ...core import elementwise as binary
from ...core import softmax


def softmax_parts(z: Any) -> softmax.SoftmaxParts:
    """Return softmax.parts of a tensor, recorded."""
    return softmax.SoftmaxParts(*_SoftmaxParts.apply(z))  # type: ignore[no-untyped-call]


def sigmoid_parts(z: Any) -> binary.Sigmoid:
    """Return `elementwise.sigmoid` of a tensor, recorded by autograd."""
    return binary.Sigmoid(*_SigmoidParts.apply(z))  # type: ignore[no-untyped-call]


def primals(*saved: Any) -> tuple[Any, ...]:
    """Return saved tensors as constants of the forward-mode level that asks for a derivative.

    Inside a Function's jvp PyTorch switches forward mode off, at outer levels too, so that a second
    derivative would be 0. `following` switches it on again.
    """
    unpack: Any = forward_ad.unpack_dual
    return tuple(None if a is None else unpack(a).primal for a in saved)


def following() -> Any:
    """Return a context in which outer levels of forward mode record a Function's jvp."""
    return forward_ad._set_fwd_grad_enabled(True)


def mapped(function: Any, info: Any, in_dims: Any, *args: Any, shared: Any = ()) -> Any:
    """Apply a function under vmap: the mapped axis becomes one more row axis, in front.

    The rule that PyTorch generates itself fails for vmap of forward mode over forward mode.
    shared: the places of arguments that have no rows.
    """

    def front(i: int, a: Any, dim: int | None) -> Any:
        if i in shared or not torch.is_tensor(a):
            return a
        return a.expand(info.batch_size, *a.shape) if dim is None else a.movedim(dim, 0)

    return _in_front(function(*map(front, range(len(args)), args, in_dims)))


def one_by_one(function: Any, info: Any, in_dims: Any, *args: Any) -> Any:
    """Apply a function under vmap to each of the mapped calls by itself."""
    each = []
    for i in range(info.batch_size):
        pairs = zip(args, in_dims, strict=True)
        each.append(function(*(a.select(d, i) if isinstance(d, int) else a for a, d in pairs)))
    return _in_front(tree_map(lambda *a: torch.stack(a), *each))


def _in_front(out: Any) -> Any:
    """Return results whose mapped axis is in front, and where it is in each."""
    return out, tree_map(lambda _: 0, out)


def _plus(*terms: Any) -> Any:
    """Add the terms that are not None; None where all are."""
    out = None
    for term in terms:
        if term is not None:
            out = term if out is None else out + term
    return out


class _SoftmaxParts(torch.autograd.Function):
    """(lse, -log p, p, 1 - p) of the rows of z, with their derivatives by p itself."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, z: Any) -> Any:
        return mapped(_SoftmaxParts.apply, info, in_dims, z)

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
        with following():
            (p,) = primals(*ctx.saved_tensors)
            average = (p * v).sum(-1, keepdim=True)
            moved = p * (v - average)
            return average.squeeze(-1), average - v, moved, -moved


class _SigmoidParts(torch.autograd.Function):
    """(p, 1 - p, softplus(z), softplus(-z)), with their derivatives by p and 1 - p."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, z: Any) -> Any:
        return mapped(_SigmoidParts.apply, info, in_dims, z)

    @staticmethod
    def forward(z: Any) -> Any:
        got = binary.sigmoid(z, functional(context(z, namespace(z))))
        return got.p, got.q, got.rise, got.fall

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(output[0], output[1])
        ctx.save_for_forward(output[0], output[1])

    @staticmethod
    def backward(ctx: Any, p: Any, q: Any, rise: Any, fall: Any) -> Any:
        one, other = ctx.saved_tensors
        return one * other * (p - q) + one * rise - other * fall

    @staticmethod
    def jvp(ctx: Any, v: Any) -> Any:
        with following():
            p, q = primals(*ctx.saved_tensors)
            moved = p * q * v
            return moved, -moved, p * v, -q * v
