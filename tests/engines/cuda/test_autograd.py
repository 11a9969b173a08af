"""Autograd on the CUDA engine: the forward launch writes the gradient, and no bit shows it."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

import xloss
from emulated import COMPILER, emulated
from nightly import core

torch = pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
pytestmark = pytest.mark.skipif(
    COMPILER is None, reason="no g++ here, which compiles the kernels for the host"
)

ULP = {"float16": 1, "bfloat16": 1, "float32": 4}
OPTIONS: dict[str, dict[str, Any]] = {
    "mean": {},
    "sum": {"reduction": "sum"},
    "normalizer": {"normalizer": 7.0},
    "smoothed": {"label_smoothing": 0.1},
    "z-loss": {"z_loss": 0.01},
    "capped": {"softcap": 9.0},
    "weighted": {"weight": torch.linspace(0.5, 2, 50), "ignore_index": 3},
    "absent": {"where": torch.arange(6) != 2},
}


def inputs(kind: str = "float32", rows: int = 6, classes: int = 50) -> tuple[Any, Any]:
    rng = np.random.default_rng([rows, classes])
    # On a grid: what is subtracted is exact.
    z = np.round(rng.standard_normal((rows, classes)) * 3 * 64) / 64
    y = rng.integers(0, classes, rows)
    return torch.tensor(z).to(getattr(torch, kind)).requires_grad_(), torch.tensor(y)


def slope_of(z: Any, y: Any, up: float) -> np.ndarray:
    """The gradient of the mean times `up`, by its definition, in float64."""
    x = z.detach().double().numpy()
    e = np.exp(x - x.max(-1, keepdims=True))
    p = e / e.sum(-1, keepdims=True)
    rows = np.arange(len(x))
    others = np.where(np.arange(x.shape[1]) == y.numpy()[:, None], 0.0, p)
    g = p
    g[rows, y.numpy()] = -others.sum(-1)
    return g * up / len(x)


def assert_close(got: Any, want: np.ndarray, kind: str) -> None:
    info = torch.finfo(getattr(torch, kind))
    step = np.maximum(np.abs(want), info.smallest_normal) * info.eps
    assert (np.abs(got.double().numpy() - want) <= ULP[kind] * step).all()


def modes(gpu: Any) -> list[int]:
    """Of each launch of rows, whether it is one that writes a gradient."""
    return [dict(c)["GRAD"] for c, _ in gpu.launches if "GRAD" in dict(c)]


@pytest.mark.parametrize("up", [1.0, 0.5, 3.0, 65536.0, 1e-3])
@pytest.mark.parametrize("kind", ULP)
def test_the_gradient_of_a_mean_for_every_upstream(kind: str, up: float) -> None:
    z, y = inputs(kind)
    with emulated() as gpu:
        xloss.cross_entropy(z, y).backward(torch.tensor(up))
        assert modes(gpu) == [1, 1]
    assert_close(z.grad, slope_of(z, y, up), kind)


def test_a_scaled_loss_keeps_what_float16_cannot_hold_unscaled() -> None:
    """A gradient that is 0 in float16, times a gradient scaler's 65,536, is a number again."""
    z, y = inputs("float16", 4, 8)
    with torch.no_grad():
        z[:] = torch.tensor([0.0] + [-20.0] * 7)
    y[:] = 0
    with emulated():
        xloss.cross_entropy(z, y, reduction="sum").backward(torch.tensor(65536.0))
    want = slope_of(z, y, 4 * 65536.0)
    assert (torch.tensor(want / 65536.0).half() == 0)[:, 1:].all()
    assert (z.grad[:, 1:] != 0).all()
    assert_close(z.grad, want, "float16")


@pytest.mark.parametrize("up", [0.0, float("inf"), float("nan"), -1.0])
def test_an_upstream_that_is_no_common_number(up: float) -> None:
    z, y = inputs()
    with emulated():
        (got,) = torch.autograd.grad(xloss.cross_entropy(z, y), z, torch.tensor(up))
    want = slope_of(z, y, 1.0) * up
    np.testing.assert_array_equal(np.isnan(got.numpy()), np.isnan(want))
    finite = np.isfinite(want)
    assert (got.numpy()[np.isinf(want)] == want[np.isinf(want)]).all()
    np.testing.assert_allclose(got.numpy()[finite], want[finite], rtol=5e-7)


MIXES = core(
    product(OPTIONS, [50, 8203]),
    lambda name, classes: classes == 50 or name in ("mean", "smoothed"),
)


@pytest.mark.parametrize("up", [1.0, 3.0])
@pytest.mark.parametrize(("name", "classes"), MIXES)
def test_the_bits_are_those_of_value_and_grad(name: str, classes: int, up: float) -> None:
    options = dict(OPTIONS[name])
    if "weight" in options:
        options["weight"] = torch.linspace(0.5, 2, classes)
    z, y = inputs("bfloat16", classes=classes)
    for capability in (80, 90):
        with emulated(capability):
            loss = xloss.cross_entropy(z, y, **options)
            (got,) = torch.autograd.grad(loss, z, torch.tensor(up))
            value, want = xloss.value_and_grad(xloss.cross_entropy)(
                z.detach(), y, cotangent=torch.tensor(up), **options
            )
        assert torch.equal(loss.detach(), value)
        assert torch.equal(got, want)


@pytest.mark.parametrize("rows", [6, 1500])
def test_backward_reads_no_logits_where_the_upstream_is_1(rows: int) -> None:
    z, y = inputs(rows=rows)
    want = slope_of(z, y, 1.0)
    with emulated():
        loss = xloss.cross_entropy(z, y)
        z.data.mul_(0.5)  # behind autograd's back
        (got,) = torch.autograd.grad(loss, z, retain_graph=True)
        assert_close(got, want, "float32")
        (again,) = torch.autograd.grad(loss, z)
        assert (again != got).any(-1).all()  # and where the gradient stands no more, it does


def test_two_backwards_share_nothing() -> None:
    z, y = inputs()
    with emulated():
        loss = xloss.cross_entropy(z, y)
        (first,) = torch.autograd.grad(loss, z, torch.tensor(3.0), retain_graph=True)
        kept = first.clone()
        first.mul_(0.0)  # as clipping or an optimizer may
        (second,) = torch.autograd.grad(loss, z, torch.tensor(3.0), retain_graph=True)
        (third,) = torch.autograd.grad(loss, z)
        assert loss.grad_fn.ahead is None
        with pytest.raises(RuntimeError, match="second time"):
            loss.backward()
    assert torch.equal(second, kept)
    assert (first == 0).all()
    assert_close(third, slope_of(z, y, 1.0), "float32")


def test_a_sum_of_losses_and_of_their_multiples() -> None:
    z, y = inputs()
    with emulated():
        one, two = xloss.cross_entropy(z, y), xloss.cross_entropy(z, y)
        (2 * one + one + two).backward()
        assert_close(z.grad, slope_of(z, y, 4.0), "float32")
        xloss.cross_entropy(z, y).backward()  # added to what is there
    assert_close(z.grad, slope_of(z, y, 5.0), "float32")


def test_several_outputs_and_one_that_nobody_uses() -> None:
    z, y = inputs()
    with emulated():
        losses = [xloss.cross_entropy(z, y, reduction=r) for r in ("mean", "sum", "sum")]
        (got,) = torch.autograd.grad(losses[:2], z, [torch.tensor(6.0), torch.tensor(1.0)])
    assert_close(got, slope_of(z, y, 12.0), "float32")


def test_a_hook_sees_the_gradient_and_may_replace_it() -> None:
    z, y = inputs()
    z.register_hook(lambda g: g * 2)
    with emulated():
        xloss.cross_entropy(z, y).backward()
    assert_close(z.grad, slope_of(z, y, 2.0), "float32")


def test_twice_differentiable_after_the_gradient_was_written() -> None:
    z, y = inputs("float64", 3, 5)
    with emulated():
        assert torch.autograd.gradcheck(lambda z: xloss.cross_entropy(z, y), z)
        assert torch.autograd.gradgradcheck(lambda z: xloss.cross_entropy(z, y), z)
        loss = xloss.cross_entropy(z, y)
        (graph,) = torch.autograd.grad(loss, z, create_graph=True)
        (plain,) = torch.autograd.grad(loss, z, retain_graph=True)
        (once,) = torch.autograd.grad(graph.sum(), z)  # rows of a gradient sum to 0
    np.testing.assert_allclose(graph.detach(), plain, rtol=1e-12)
    np.testing.assert_allclose(once, 0.0, atol=1e-15)


def test_upstreams_whose_values_are_not_in_their_memory() -> None:
    z, y = inputs()
    zero = torch._efficientzerotensor((), dtype=torch.float32)
    with emulated():
        for up, factor in ((torch._neg_view(torch.tensor(2.0)), -2.0), (zero, 0.0)):
            (got,) = torch.autograd.grad(xloss.cross_entropy(z, y), z, up)
            assert_close(got, slope_of(z, y, factor), "float32")


def test_a_batch_of_upstreams() -> None:
    z, y = inputs()
    ups = torch.tensor([1.0, 2.0, -3.0])
    with emulated():
        loss = xloss.cross_entropy(z, y)
        (got,) = torch.autograd.grad(loss, z, ups, is_grads_batched=True)
    for each, up in zip(got, ups, strict=True):
        np.testing.assert_allclose(each, slope_of(z, y, float(up)), rtol=1e-6, atol=1e-9)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # PyTorch's own import
def test_functional_transforms_go_their_own_way() -> None:
    z, y = inputs()
    want = slope_of(z, y, 1.0)
    with emulated():
        xloss.cross_entropy(z, y).backward()  # what it remembers is not for them
        got = torch.func.grad(lambda z: xloss.cross_entropy(z, y))(z.detach())
        by_row = torch.func.vmap(torch.func.grad(xloss.cross_entropy))(z.detach(), y)
        _, moved = torch.func.jvp(
            lambda z: xloss.cross_entropy(z, y), (z.detach(),), (torch.ones_like(z),)
        )
    np.testing.assert_allclose(got, want, rtol=1e-6)
    np.testing.assert_allclose(by_row / 6, want, rtol=1e-6)
    np.testing.assert_allclose(moved, 0.0, atol=1e-7)


def test_nothing_is_written_ahead_where_saved_tensors_are_packed() -> None:
    """Checkpointing and offloading are there to hold less from forward to backward."""
    z, y = inputs()
    with emulated() as gpu:
        got = torch.utils.checkpoint.checkpoint(
            lambda z: xloss.cross_entropy(z, y), z, use_reentrant=False
        )
        assert modes(gpu) == [0]
        got.backward()
        assert modes(gpu) == [0, 0, 1]
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t.numpy(), torch.from_numpy):
            loss = xloss.cross_entropy(z, y)
        loss.backward()
        assert modes(gpu)[-2:] == [0, 1]
    assert_close(z.grad, slope_of(z, y, 2.0), "float32")


def test_nothing_is_written_ahead_where_pytorch_cannot_be_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("xloss.backends.torch.gradient_ahead._packs", None)
    z, y = inputs()
    with emulated() as gpu:
        xloss.cross_entropy(z, y).backward()
        assert modes(gpu) == [0, 1]
    assert_close(z.grad, slope_of(z, y, 1.0), "float32")


def test_nothing_is_written_ahead_where_nobody_asks() -> None:
    z, y = inputs()
    with emulated() as gpu:
        with torch.no_grad():
            assert xloss.cross_entropy(z, y).grad_fn is None
        assert xloss.cross_entropy(z.detach(), y).grad_fn is None
        assert modes(gpu) == [0, 0]


def test_logits_that_were_written_to_are_an_error() -> None:
    z, y = inputs()
    with emulated():
        x = z * 1
        loss = xloss.cross_entropy(x, y)
        x.add_(1.0)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def test_a_transformation_that_follows_something_else() -> None:
    z, y = inputs()
    with emulated():
        got = torch.func.grad(lambda w: (w * w).sum() + xloss.cross_entropy(z, y))(torch.ones(3))
    assert got.tolist() == [2.0, 2.0, 2.0]
