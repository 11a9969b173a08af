"""PyTorch's autograd: every loss, to second order, forward and backward; what it keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import xloss
from torch_cases import GRADIENTS, compiled, logits, logs, of_leaves, probs, torch

F = torch.nn.functional

# torch's own, on the first use of forward mode.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")


@pytest.mark.parametrize("name", [name for name in GRADIENTS if "linear" not in name])
def test_class_losses_twice(name: str) -> None:
    """gradcheck and gradgradcheck, to every argument at once that has a gradient."""
    function, leaves = of_leaves(name)
    leaves = [leaf.requires_grad_() for leaf in leaves]
    assert torch.autograd.gradcheck(function, leaves, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, leaves)


@pytest.mark.parametrize(
    ("name", "make"),
    [("cross_entropy", logits), ("nll_loss", logs), ("log_loss", probs), ("focal_loss", logits)],
)
def test_autograd_gives_the_closed_form(name: str, make: Callable[..., Any]) -> None:
    """backward equals value_and_grad bit for bit, with a non-uniform upstream gradient."""
    x, t = (a.double().requires_grad_() for a in (make(4, 3), probs(4, 3).flip(0)))
    up = torch.tensor([1.0, -2.0, 0.0, 0.5], dtype=torch.float64)
    getattr(xloss, name)(x, t, reduction="none").backward(up)
    both = xloss.value_and_grad(getattr(xloss, name), (0, 1))
    _, (g, h) = both(x, t, reduction="none", cotangent=up)
    assert torch.equal(x.grad, g)
    assert torch.equal(t.grad, h)


def test_double_backward_through_ties_and_masks() -> None:
    """Two equal maxima and a masked class: finite, and what torch's own softmax gives."""
    z = torch.tensor([[2.0, 2.0, -1.0, 0.5]], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([1])

    def second(loss: Callable[..., Any], x: Any) -> Any:
        (g,) = torch.autograd.grad(loss(x, y), x, create_graph=True)
        return torch.autograd.grad((g * g).sum(), x)[0]

    want = second(F.cross_entropy, z)
    torch.testing.assert_close(second(xloss.cross_entropy, z), want)
    masked = F.pad(z.detach(), (0, 1), value=-torch.inf).requires_grad_()
    got = second(xloss.cross_entropy, masked)
    torch.testing.assert_close(got, F.pad(want, (0, 1)))


@pytest.mark.parametrize(("classes", "numbers"), [(10, 0), (200, 2)])
def test_backward_saves_inputs_and_a_few_numbers_a_row(classes: int, numbers: int) -> None:
    """What autograd keeps beyond its inputs is O(rows); by a compiled engine it is counted."""
    kept: list[Any] = []
    z, t = logits(50, classes).requires_grad_(), torch.zeros(50, dtype=torch.int64)
    with torch.autograd.graph.saved_tensors_hooks(lambda a: kept.append(a) or a, lambda a: a):
        xloss.cross_entropy(z, t)
    assert any(a.data_ptr() == z.data_ptr() for a in kept)
    own = [a for a in kept if a.data_ptr() not in (z.data_ptr(), t.data_ptr())]
    assert sum(a.numel() for a in own) <= 8 * 50
    if xloss.engines()["cpu"] is None:
        assert [tuple(a.shape) for a in own] == [(50,)] * numbers


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_a_gradient_adds_no_zeros_for_what_nobody_uses(name: str) -> None:
    """A softmax has four parts; zeros for three of them took three times as long."""
    z = torch.randn(4, 3, requires_grad=True)
    value = getattr(xloss, name)(z)
    with torch.autograd.profiler.profile() as seen:
        value.backward(torch.rand(4, 3))
    assert z.grad.any()
    assert not [event.name for event in seen.function_events if "zeros" in event.name]


@pytest.mark.parametrize("loss", ["mean", "none", "linear"])
def test_activation_checkpointing(loss: str) -> None:
    """The forward is run again for the backward, which may ask for what it saved only once.

    Around a call, around a compiled one, and within one.
    """
    from torch.utils.checkpoint import checkpoint

    x, y, features = logits(300, 4).requires_grad_(), torch.arange(4), logits(4, 4)

    def of(x: Any) -> Any:
        if loss == "linear":
            return xloss.linear_cross_entropy(features, 2 * x, y)
        return xloss.cross_entropy(2 * x.T, y, reduction=loss).sum()

    (want,) = torch.autograd.grad(of(x), x)
    within = compiled(lambda x: checkpoint(of, x, use_reentrant=False))
    for value in (*(checkpoint(f, x, use_reentrant=False) for f in (of, compiled(of))), within(x)):
        assert torch.equal(torch.autograd.grad(value, x)[0], want)
