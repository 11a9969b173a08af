"""PyTorch's autograd and torch.func: every loss, to second order, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import pytest

import xloss

torch = pytest.importorskip("torch")
F = torch.nn.functional

# torch's own, on the first use of forward mode.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")

CLASSES = ["cross_entropy", "nll_loss", "log_loss", "focal_loss"]
ELEMENTWISE = [
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy",
    "sigmoid_focal_loss",
    "kl_div",
]
WEIGHT = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
SAMPLE = torch.tensor([1.0, 0.0, 0.5, 3.0], dtype=torch.float64)
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "smooth rows": {"label_smoothing": 0.1, "reduction": "none"},
    "weighted": {"weight": WEIGHT, "sample_weight": SAMPLE, "label_smoothing": 0.2},
    "bent": {"z_loss": 0.1, "softcap": 3.0},
}


def tensor(*shape: int, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def given(name: str, shape: tuple[int, ...] = (4, 3)) -> Any:
    z = tensor(*shape)
    if name in ("nll_loss", "kl_div"):
        z = z.log_softmax(-1)
    elif name in ("log_loss", "binary_cross_entropy"):
        z = z.softmax(-1)
    return z.requires_grad_()


def soft(shape: tuple[int, ...] = (4, 3)) -> Any:
    return tensor(*shape, seed=5).softmax(-1).requires_grad_()


LABELS = torch.tensor([0, -100, 2, 1])


def twice(function: Callable[..., Any], *args: Any) -> None:
    assert torch.autograd.gradcheck(function, args, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, args)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *product(CLASSES, [*OPTIONS][:3]),
        ("cross_entropy", "bent"),
        *product(ELEMENTWISE, ["plain"]),
    ],
)
def test_class_losses_twice(name: str, options: str) -> None:
    """gradcheck and gradgradcheck, to logits alone and to soft targets with them."""
    function = partial(getattr(xloss, name), **OPTIONS[options])
    if name in CLASSES:
        twice(lambda x: function(x, LABELS), given(name))
    twice(function, given(name), soft())


@pytest.mark.parametrize("name", CLASSES)
def test_autograd_gives_the_closed_form(name: str) -> None:
    """backward equals value_and_grad bit for bit, with a non-uniform upstream gradient."""
    x, t = given(name).detach().requires_grad_(), soft()
    up = torch.tensor([1.0, -2.0, 0.0, 0.5], dtype=torch.float64)
    getattr(xloss, name)(x, t, reduction="none").backward(up)
    _, (g, h) = xloss.value_and_grad(getattr(xloss, name), (0, 1))(
        x, t, reduction="none", cotangent=up
    )
    assert torch.equal(x.grad, g)
    assert torch.equal(t.grad, h)


def test_double_backward_through_ties_and_masks() -> None:
    """Two equal maxima and a masked class: finite, and what torch's own softmax gives."""
    z = torch.tensor([[2.0, 2.0, -1.0, 0.5]], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([1])

    def second(loss: Callable[..., Any], x: Any) -> Any:
        (g,) = torch.autograd.grad(loss(x, y), x, create_graph=True)
        return torch.autograd.grad((g * g).sum(), x)[0]

    torch.testing.assert_close(second(xloss.cross_entropy, z), second(F.cross_entropy, z))
    masked = torch.cat([z.detach(), torch.full((1, 1), -torch.inf)], 1).double().requires_grad_()
    got = second(xloss.cross_entropy, masked)
    torch.testing.assert_close(got[:, :4], second(F.cross_entropy, z))
    assert got[0, 4] == 0


def test_functional_transforms() -> None:
    """Mapped over rows, the classes in front too; derivatives of every order are in test_mixes."""
    from torch.func import grad, vmap

    z, y = tensor(4, 3), torch.tensor([0, 1, 2, 1])
    each = vmap(grad(lambda x, t: xloss.cross_entropy(x, t)))(z, y)
    torch.testing.assert_close(each, 4 * xloss.value_and_grad(xloss.cross_entropy)(z, y)[1])
    z, y = tensor(2, 3, 4), torch.tensor([[0, 1, 2, 1], [2, 2, 0, 0]])
    got = vmap(lambda x, t: xloss.cross_entropy(x, t, axis=0))(z, y)
    want = [xloss.cross_entropy(z[i].T, y[i]) for i in range(2)]
    torch.testing.assert_close(got, torch.stack(want))


@pytest.mark.parametrize(("classes", "numbers"), [(10, 0), (200, 2)])
def test_backward_saves_inputs_and_a_few_numbers_a_row(classes: int, numbers: int) -> None:
    """What autograd keeps beyond its inputs is O(rows); by a compiled engine it is counted."""
    kept: list[Any] = []
    z, t = tensor(50, classes).float().requires_grad_(), torch.zeros(50, dtype=torch.int64)
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
    z = tensor(4, 3).requires_grad_()
    value = getattr(xloss, name)(z)
    with torch.autograd.profiler.profile() as seen:
        value.backward(soft())
    assert z.grad.any()
    assert not [event.name for event in seen.function_events if "zeros" in event.name]


def test_no_graph_where_nobody_asks() -> None:
    """Under no_grad, and for value_and_grad, nothing is recorded."""
    z, y = tensor(4, 3).requires_grad_(), torch.tensor([0, 1, 2, 1])
    with torch.no_grad():
        assert not xloss.cross_entropy(z, y).requires_grad
    value, grad = xloss.value_and_grad(xloss.cross_entropy)(z, y)
    assert not value.requires_grad
    assert not grad.requires_grad


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_activation_checkpointing(reduction: str) -> None:
    """The forward is run again for the backward, which may ask for what it saved only once."""
    from torch.utils.checkpoint import checkpoint

    x, y = torch.randn(4, 300, requires_grad=True), torch.arange(4)

    def loss(x: Any) -> Any:
        return xloss.cross_entropy(2 * x, y, reduction=reduction).sum()

    checkpoint(loss, x, use_reentrant=False).backward()
    (want,) = torch.autograd.grad(loss(x), x)
    assert torch.equal(x.grad, want)
    w = torch.randn(300, 8, requires_grad=True)
    f = torch.randn(4, 8)

    def linear(w: Any) -> Any:
        return xloss.linear_cross_entropy(f, w, y)

    checkpoint(linear, w, use_reentrant=False).backward()
    (want,) = torch.autograd.grad(linear(w), w)
    assert torch.equal(w.grad, want)
