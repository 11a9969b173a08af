"""Autograd on the CUDA engine: the forward launch writes the gradient, and no bit shows it."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

import xloss
from emulated import assert_near, assert_same, both, emulated, expected, inputs
from nightly import core

torch = pytest.importorskip("torch", reason="pip install 'xloss[torch]'")

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


def leaf(kind: str = "float32", rows: int = 6, classes: int = 50) -> tuple[Any, Any, np.ndarray]:
    """Logits that autograd follows, labels, and the exact gradient of the mean."""
    z, y = inputs(rows, classes, kind=kind)
    z = (z * 64).round() / 64  # what is subtracted is exact, in the generic engine too
    return z.requires_grad_(), y, expected(z, y)[1]


def modes(gpu: Any) -> list[int]:
    """Of each launch of rows, whether it is one that writes a gradient."""
    return [dict(c)["GRAD"] for c, _ in gpu.launches if "GRAD" in dict(c)]


def test_a_scaled_loss_keeps_what_float16_cannot_hold_unscaled() -> None:
    """A gradient that is 0 in float16, times a gradient scaler's 65,536, is a number again."""
    z = torch.tensor([[0.0] + [-20.0] * 7] * 4).half().requires_grad_()
    y = torch.zeros(4, dtype=torch.int64)
    with emulated():
        xloss.cross_entropy(z, y, reduction="sum").backward(torch.tensor(65536.0))
    slope = expected(z, y, reduction="sum")[1]
    assert (torch.tensor(slope).half() == 0)[:, 1:].all()
    assert (z.grad[:, 1:] != 0).all()
    assert_near(z.grad, slope * 65536)


MIXES = core(
    product(OPTIONS, [50, 8203]),
    lambda name, classes: classes == 50 or name in ("mean", "smoothed"),
)


@pytest.mark.parametrize(("name", "classes"), MIXES)
def test_the_bits_are_those_of_value_and_grad(name: str, classes: int) -> None:
    options = dict(OPTIONS[name])
    if "weight" in options:
        options["weight"] = torch.linspace(0.5, 2, classes)
    z, y, _ = leaf("bfloat16", classes=classes)
    ups = (1.0, 3.0, 0.0, np.inf, np.nan)[: 5 if classes == 50 else 2]
    for capability, up in product((80, 90), ups):
        with emulated(capability):
            loss = xloss.cross_entropy(z, y, **options)
            (got,) = torch.autograd.grad(loss, z, torch.tensor(up))
            want = both(z.detach(), y, cotangent=torch.tensor(up), **options)
        assert_same((loss.detach(), got), want)


@pytest.mark.parametrize("rows", [6, 1500])
def test_backward_reads_no_logits_where_the_upstream_is_1(rows: int) -> None:
    z, y, slope = leaf(rows=rows)
    with emulated():
        loss = xloss.cross_entropy(z, y)
        z.data.mul_(0.5)  # behind autograd's back
        (got,) = torch.autograd.grad(loss, z, retain_graph=True)
        assert_near(got, slope)
        (again,) = torch.autograd.grad(loss, z)
        assert (again != got).any(-1).all()  # and where the gradient stands no more, it does


def test_two_backwards_share_nothing() -> None:
    z, y, slope = leaf()
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
    assert_near(third, slope)


def test_twice_differentiable_after_the_gradient_was_written() -> None:
    z, y, _ = leaf("float64", 3, 5)
    with emulated():
        assert torch.autograd.gradcheck(lambda z: xloss.cross_entropy(z, y), z)
        assert torch.autograd.gradgradcheck(lambda z: xloss.cross_entropy(z, y), z)


def test_upstreams_whose_values_are_not_in_their_memory() -> None:
    z, y, slope = leaf()
    zero = torch._efficientzerotensor((), dtype=torch.float32)
    with emulated():
        for up, factor in ((torch._neg_view(torch.tensor(2.0)), -2.0), (zero, 0.0)):
            (got,) = torch.autograd.grad(xloss.cross_entropy(z, y), z, up)
            assert_near(got, slope * factor)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # PyTorch's own import
def test_batches_and_functional_transforms_go_their_own_way() -> None:
    z, y, slope = leaf()
    ups = torch.tensor([1.0, 2.0, -3.0])
    with emulated():
        loss = xloss.cross_entropy(z, y)  # what it remembers is not for them
        (batch,) = torch.autograd.grad(loss, z, ups, is_grads_batched=True)
        got = torch.func.grad(lambda z: xloss.cross_entropy(z, y))(z.detach())
        by_row = torch.func.vmap(torch.func.grad(xloss.cross_entropy))(z.detach(), y)
        follows = torch.func.grad(lambda w: (w * w).sum() + xloss.cross_entropy(z, y))
        assert follows(torch.ones(3)).tolist() == [2.0, 2.0, 2.0]
    np.testing.assert_allclose(batch, ups.numpy()[:, None, None] * slope, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(got, slope, rtol=1e-6)
    np.testing.assert_allclose(by_row / 6, slope, rtol=1e-6)


def test_where_nothing_is_written_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpointing and offloading are there to hold less from forward to backward."""
    z, y, slope = leaf()

    def loss(z: Any) -> Any:
        return xloss.cross_entropy(z, y)

    with emulated() as gpu:
        got = torch.utils.checkpoint.checkpoint(loss, z, use_reentrant=False)
        assert modes(gpu) == [0]
        got.backward()
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t.numpy(), torch.from_numpy):
            offloaded = loss(z)
        offloaded.backward()
        with torch.no_grad():
            assert loss(z).grad_fn is None
        assert loss(z.detach()).grad_fn is None
        # Where PyTorch cannot be asked.
        monkeypatch.setattr("xloss.backends.torch.gradient_ahead._packs", None)
        loss(z).backward()
        assert modes(gpu) == [0, 0, 1, 0, 1, 0, 0, 0, 1]
    assert_near(z.grad, slope * 3)
