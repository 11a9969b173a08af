"""PyTorch's autograd and torch.func: every loss, to second order, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import xloss

torch = pytest.importorskip("torch")
F = torch.nn.functional

# torch's own, on the first use of forward mode.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")

CLASSES = ["cross_entropy", "nll_loss", "log_loss", "focal_loss"]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"label_smoothing": 0.1, "reduction": "none"},
    {"weight": True, "sample_weight": True, "label_smoothing": 0.2},
]


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


def bound(name: str, options: dict[str, Any]) -> Callable[..., Any]:
    """Return loss(x, t) with the options' flags made arrays."""
    made = dict(options)
    if made.pop("weight", None):
        made["weight"] = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    if made.pop("sample_weight", None):
        made["sample_weight"] = torch.tensor([1.0, 0.0, 0.5, 3.0], dtype=torch.float64)
    return lambda x, t: getattr(xloss, name)(x, t, **made)


def twice(function: Callable[..., Any], *args: Any) -> None:
    assert torch.autograd.gradcheck(function, args, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, args)


@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "smooth rows", "weighted"])
@pytest.mark.parametrize("name", CLASSES)
def test_class_losses_twice(name: str, options: dict[str, Any]) -> None:
    """gradcheck and gradgradcheck, to logits alone and to soft targets with them."""
    function = bound(name, options)
    twice(lambda x: function(x, LABELS), given(name))
    twice(function, given(name), soft())


def test_z_loss_and_softcap_twice() -> None:
    """The options that bend the logits."""
    function = bound("cross_entropy", {"z_loss": 0.1, "softcap": 3.0})
    twice(lambda x: function(x, LABELS), given("cross_entropy"))
    twice(function, given("cross_entropy"), soft())


@pytest.mark.parametrize(
    "name",
    ["binary_cross_entropy_with_logits", "binary_cross_entropy", "sigmoid_focal_loss", "kl_div"],
)
def test_elementwise_losses_twice(name: str) -> None:
    """The same for the losses of elementwise terms."""
    twice(getattr(xloss, name), given(name), soft())


@pytest.mark.parametrize("name", ["logsumexp", "softmax", "log_softmax", "entropy"])
def test_ops_twice(name: str) -> None:
    """The same for the functions of logits alone, along either axis."""
    for axis in (0, 1):
        twice(lambda z, axis=axis: getattr(xloss, name)(z, axis=axis), given("cross_entropy"))


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
    """A loss and its gradient mapped over rows; derivatives of every order are in test_mixes."""
    from torch.func import grad, vmap

    z, y = tensor(4, 3), torch.tensor([0, 1, 2, 1])
    each = vmap(grad(lambda x, t: xloss.cross_entropy(x, t)))(z, y)
    torch.testing.assert_close(each, 4 * xloss.value_and_grad(xloss.cross_entropy)(z, y)[1])
    rows = vmap(lambda x, t: xloss.cross_entropy(x, t, axis=0))(z, y)
    torch.testing.assert_close(rows, xloss.cross_entropy(z, y, reduction="none"))


def test_vmap_over_a_class_axis_in_front() -> None:
    """The class axis is moved inside a mapped call too."""
    z, y = tensor(2, 3, 4), torch.tensor([[0, 1, 2, 1], [2, 2, 0, 0]])
    got = torch.func.vmap(lambda x, t: xloss.cross_entropy(x, t, axis=0))(z, y)
    want = [xloss.cross_entropy(z[i].T, y[i]) for i in range(2)]
    torch.testing.assert_close(got, torch.stack(want))


def test_backward_saves_inputs_and_a_few_numbers_a_row() -> None:
    """What autograd keeps beyond its inputs is O(rows)."""
    z, y = tensor(16, 4096).requires_grad_(), torch.arange(16)
    kept: list[Any] = []

    def pack(saved: Any) -> Any:
        kept.append(saved)
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        xloss.cross_entropy(z, y)
    own = [t for t in kept if t.data_ptr() not in (z.data_ptr(), y.data_ptr())]
    assert any(t.data_ptr() == z.data_ptr() for t in kept)
    assert sum(t.numel() for t in own) <= 8 * 16


def test_no_graph_where_nobody_asks() -> None:
    """Under no_grad, and for value_and_grad, nothing is recorded."""
    z, y = tensor(4, 3).requires_grad_(), torch.tensor([0, 1, 2, 1])
    with torch.no_grad():
        assert not xloss.cross_entropy(z, y).requires_grad
    value, grad = xloss.value_and_grad(xloss.cross_entropy)(z, y)
    assert not value.requires_grad
    assert not grad.requires_grad


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("classes", [10, 200])
def test_a_reduced_loss_has_the_gradient_of_value_and_grad(
    classes: int, dtype: Any, reduction: str
) -> None:
    """To the bit, the upstream multiplying; whatever is saved for it."""
    z = (3 * tensor(7, classes)).to(dtype).requires_grad_()
    t = torch.arange(7) % 5
    t[2] = -100
    weight = torch.linspace(0.5, 2.0, classes, dtype=torch.float64)
    for options in {}, {"weight": weight}, {"weight": weight, "normalizer": 3.0}:
        if reduction == "sum" and "normalizer" in options:
            continue
        options = {**options, "reduction": reduction}
        loss = xloss.cross_entropy(z, t, **options)
        want, slope = xloss.value_and_grad(xloss.cross_entropy)(z.detach(), t, **options)
        assert torch.equal(loss, want)
        (got,) = torch.autograd.grad(4 * loss, z, retain_graph=True)
        assert torch.equal(got, 4 * slope)
        assert torch.equal(torch.autograd.grad(loss, z)[0], slope)


@pytest.mark.parametrize(("classes", "numbers"), [(10, 0), (200, 2)])
def test_a_reduced_loss_saves_what_its_gradient_reads(classes: int, numbers: int) -> None:
    if xloss.engines()["cpu"] is not None:
        pytest.skip(f"no compiled engine here: {xloss.engines()['cpu']}")
    kept: list[Any] = []
    z, t = tensor(50, classes).float().requires_grad_(), torch.zeros(50, dtype=torch.int64)
    with torch.autograd.graph.saved_tensors_hooks(lambda a: kept.append(a) or a, lambda a: a):
        loss = xloss.cross_entropy(z, t)
    assert loss.requires_grad
    others = [a for a in kept if a.data_ptr() not in (z.data_ptr(), t.data_ptr())]
    assert [tuple(a.shape) for a in others] == [(50,)] * numbers


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
