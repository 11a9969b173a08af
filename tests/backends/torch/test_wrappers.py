"""Tensors whose memory does not hold their values: nowhere is it read, and arguments are named."""

from __future__ import annotations

from typing import Any

import pytest

import xloss
from torch_cases import CASES, same, torch

X = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 0.0], [1.0, 0.0, 0.0], [0.5, 0.0, 1.0]])
Y, WEIGHT, ROW = torch.tensor([0, 1, 2, 1]), torch.tensor([0.5, 1.0, 2.0]), torch.ones(4)


class Holds(torch.Tensor):  # type: ignore[misc]  # torch is untyped here
    """A wrapper as PyTorch's guide to extending it writes one: no memory of its own."""

    @staticmethod
    def __new__(cls, held: Any) -> Any:
        return torch.Tensor._make_wrapper_subclass(cls, held.shape, dtype=held.dtype)

    def __init__(self, held: Any) -> None:
        self.held = held

    @classmethod
    def __torch_dispatch__(cls, f: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from torch.utils._pytree import tree_map_only

        args, kwargs = tree_map_only(cls, lambda a: a.held, (args, kwargs or {}))
        return tree_map_only(torch.Tensor, cls, f(*args, **kwargs))


def two(a: Any) -> Any:
    from torch.testing._internal.two_tensor import TwoTensor

    return TwoTensor(a.clone(), a.clone())


def fake(a: Any) -> Any:
    from torch._subclasses.fake_tensor import FakeTensorMode

    return FakeTensorMode().from_tensor(a)


WRAPPERS = {"TwoTensor": two, "Holds": Holds, "FakeTensor": fake, "Tensor": lambda a: a.to("meta")}
ARGUMENTS = {
    "logits": X,
    "targets": Y,
    "weight": WEIGHT,
    "sample_weight": ROW,
    "where": ROW > 0,
}


@pytest.mark.parametrize("argument", ARGUMENTS)
@pytest.mark.parametrize("kind", WRAPPERS)
def test_no_foreign_memory_is_read(kind: str, argument: str) -> None:
    """A record, and a diagnosis, were numbers that stood where a pointer of no meaning points."""
    given = {**ARGUMENTS, argument: WRAPPERS[kind](ARGUMENTS[argument])}
    x, y = given.pop("logits"), given.pop("targets")
    for read in (xloss.Evaluation().update, xloss.diagnose):
        with pytest.raises(TypeError, match=rf"^{argument}: {kind} .* no values here"):
            read(x, y, **given)


def test_a_normalizer_that_wraps() -> None:
    with pytest.raises(TypeError, match=r"^normalizer: TwoTensor .* no values here"):
        xloss.diagnose(X, Y, normalizer=two(torch.tensor(2.0)))


def test_no_record_inside_a_transformation() -> None:
    def loss(x: Any, y: Any) -> Any:
        return torch.tensor(xloss.Evaluation().update(x, y).result().loss)

    for transform in (torch.func.vmap, torch.func.grad, torch.func.functionalize):
        with pytest.raises(TypeError, match=r"^logits: Tensor .* outside of any transformation"):
            transform(loss)(X[None], Y[None])


WRAPPED = [(name, None) for name in CASES]
ALONE = [("cross_entropy", 0), ("cross_entropy", 1), ("linear", 0), ("linear", 1)]


@pytest.mark.parametrize(("name", "alone"), [*WRAPPED, *ALONE])
@pytest.mark.parametrize("kind", ["TwoTensor", "Holds"])
def test_losses_go_by_the_operations_of_a_wrapper(kind: str, name: str, alone: int | None) -> None:
    """Every argument wrapped, or one beside plain tensors."""
    function, make = CASES[name]
    given = make(4, 7)
    wrap = WRAPPERS[kind]
    got = function(*(wrap(a) if alone in (None, i) else a for i, a in enumerate(given)))
    held = "a" if kind == "TwoTensor" else "held"
    plain = torch.utils._pytree.tree_map(lambda a: getattr(a, held), got)
    same(plain, function(*given))


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_read_on_meta(name: str) -> None:
    """Where a model is laid out before it has memory, its backward pass too."""
    function, make = CASES[name]
    x, *others = (a.to("meta") for a in make(4, 7))
    got = function(x.requires_grad_(x.is_floating_point()), *others)
    for a in torch.utils._pytree.tree_leaves(got):
        assert a.is_meta
        if a.requires_grad:
            a.sum().backward(retain_graph=True)


@pytest.mark.parametrize("kind", ["negated", "zeros"])
def test_views_that_memory_does_not_show(kind: str) -> None:
    """A negated view, and the zeros that autograd makes, as logits, labels and upstreams."""

    def made(a: Any) -> Any:
        if kind == "negated":
            return torch._neg_view(-a)
        return torch._efficientzerotensor(a.shape, dtype=a.dtype)

    labels = made(Y)
    want = xloss.cross_entropy(made(X) + 0, labels + 0)
    torch.testing.assert_close(xloss.cross_entropy(made(X), labels), want)
    record = xloss.Evaluation().update(made(X), labels).result()
    assert record.loss == pytest.approx(want.item(), abs=1e-6)
    for reduction, up in (("none", torch.arange(1.0, 5.0)), ("mean", torch.tensor(2.0))):
        for dtype in (torch.float32, torch.bfloat16):
            x = X.to(dtype).requires_grad_()
            loss = xloss.cross_entropy(x, Y, reduction=reduction)
            (got,) = torch.autograd.grad(loss, x, made(up), retain_graph=True)
            (plain,) = torch.autograd.grad(loss, x, made(up) + 0)
            assert torch.equal(got, plain)


def test_labels_and_an_upstream_that_wrap() -> None:
    """No value of a wrapper is read: a bad label in one is NaN, as on a device."""
    got = xloss.cross_entropy(X, two(torch.tensor([0, 1, 7, 1])), reduction="none")
    assert torch.isnan(got.a).tolist() == [False, False, True, False]
    x = X.clone().requires_grad_()
    loss = xloss.cross_entropy(x, Y, reduction="none")
    (got,) = torch.autograd.grad(loss, x, two(torch.arange(4.0)), retain_graph=True)
    (want,) = torch.autograd.grad(loss, x, torch.arange(4.0))
    same(got.a, want)


def test_a_mode_sees_every_operation() -> None:
    """No engine reads memory past a mode that follows what is done to plain tensors."""
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = []

    class Mode(TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(self, f: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(str(f))
            return f(*args, **(kwargs or {}))

    with Mode():
        got = xloss.cross_entropy(X, Y)
        assert any("exp" in name for name in seen)
        with pytest.raises(IndexError, match="label 7"):
            xloss.cross_entropy(X, Y + 6 * (Y == 1))
    torch.testing.assert_close(got, xloss.cross_entropy(X, Y))
