"""Targets of a few classes a row under PyTorch's autograd, its transformations and its compiler."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from nightly import core
from xloss import TopKTargets, cross_entropy, linear_cross_entropy, value_and_grad

# A class in two slots, and an empty slot.
INDICES = torch.tensor([[0, 1, 1], [2, 3, 4], [5, -100, 4], [1, 2, 0]])
RESTS = pytest.mark.parametrize("rest", ["zero", "uniform"])


def given() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(4, 6, dtype=torch.float64, generator=generator)
    return z, torch.rand(4, 3, dtype=torch.float64, generator=generator) * 0.3


OPTIONS = {"plain": {}, "all": {"label_smoothing": 0.125, "z_loss": 0.25, "softcap": 4.0}}


@pytest.mark.parametrize(
    ("name", "reduction", "rest"),
    core(
        product(OPTIONS, ("mean", "none"), ("zero", "uniform")),
        lambda *call: call in {("all", "mean", "uniform"), ("plain", "none", "zero")},
    ),
)
def test_derivatives_of_first_and_second_order(name, reduction, rest):
    options = OPTIONS[name]
    z, p = (a.requires_grad_() for a in given())

    def loss(z, p):
        return cross_entropy(z, TopKTargets(INDICES, p, rest), reduction=reduction, **options)

    assert gradcheck(loss, (z, p))
    assert gradgradcheck(loss, (z, p))


@RESTS
def test_transformations(rest):
    z, p = given()
    teacher = TopKTargets(INDICES, p, rest)
    rows = cross_entropy(z, teacher, reduction="none")
    one = lambda z, i, p: cross_entropy(z, TopKTargets(i, p, rest), reduction="none")  # noqa: E731
    torch.testing.assert_close(torch.func.vmap(one)(z, INDICES, p), rows)
    value, (g, h) = value_and_grad(cross_entropy, (0, 1))(z, teacher)
    both = torch.func.grad(lambda z, p: cross_entropy(z, TopKTargets(INDICES, p, rest)), (0, 1))
    torch.testing.assert_close(both(z, p), (g, h))
    leaf = z.clone().requires_grad_()
    loss = cross_entropy(leaf, teacher)
    loss.backward()
    torch.testing.assert_close(loss.detach(), value)
    torch.testing.assert_close(leaf.grad, g)


@pytest.mark.parametrize("rest", core(["zero", "uniform"], lambda rest: rest == "uniform"))
def test_a_compiled_function_is_the_same_loss(rest):
    z, p = (a.float().requires_grad_() for a in given())

    def loss(z, i, p):
        return cross_entropy(z, TopKTargets(i, p, rest), label_smoothing=0.125)

    got, want = torch.compile(loss, fullgraph=True, backend="aot_eager"), loss
    grads = [torch.autograd.grad(f(z, INDICES, p), (z, p)) for f in (got, want)]
    torch.testing.assert_close(got(z, INDICES, p), want(z, INDICES, p))
    torch.testing.assert_close(*grads)
    x, w = torch.randn(4, 3, requires_grad=True), torch.randn(6, 3, requires_grad=True)

    def linear(x, w, i, p):
        return linear_cross_entropy(x, w, TopKTargets(i, p, rest))

    got = torch.compile(linear, fullgraph=True, backend="aot_eager")
    grads = [torch.autograd.grad(f(x, w, INDICES, p), (x, w, p)) for f in (got, linear)]
    torch.testing.assert_close(*grads)
