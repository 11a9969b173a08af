"""A gradient of few classes is computed with its loss, and handed out once, with the same bits."""

from __future__ import annotations

import gc
from typing import Any

import pytest

import xloss

torch = pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
pytest.importorskip("numba", reason="the engine is Numba's: pip install 'xloss[fast]'")
torch_ahead = pytest.importorskip("xloss.backends.torch.gradient_ahead")
if torch_ahead._packs is None:
    pytest.skip("PyTorch before 2.8 does not say who packs", allow_module_level=True)


both = xloss.value_and_grad(xloss.cross_entropy)


def data(classes: int = 5, dtype: Any = torch.float32) -> tuple[Any, Any]:
    z = torch.randn(6, classes, generator=torch.Generator().manual_seed(2)).to(dtype)
    return z.requires_grad_(), torch.arange(6) % classes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("classes", "launches"), [(5, [True]), (150, [False, True])])
def test_one_launch_for_loss_and_gradient(
    dtype: Any, classes: int, launches: list[bool], wanted: dict[str, list[Any]]
) -> None:
    """Of many classes two: the second starts from what the first has saved."""
    z, y = data(classes, dtype)
    weight = torch.linspace(0.5, 2.0, classes, dtype=torch.float64)
    for options in ({}, {"reduction": "sum"}, {"weight": weight, "normalizer": 3.0}):
        wanted["cpu"].clear()
        loss = xloss.cross_entropy(z, y, **options)
        (grad,) = torch.autograd.grad(loss, z)
        if "weight" not in options:
            assert [outputs.grad for outputs in wanted["cpu"]] == launches
        value, want = both(z, y, **options)
        assert torch.equal(loss, value)
        assert torch.equal(grad, want)


def test_other_cotangents_and_later_backwards(wanted: dict[str, list[Any]]) -> None:
    """In float16 a gradient times 2^14 is not the rounded one times 2^14."""
    z, y = data(dtype=torch.float16)
    for factor in (1.0, 2.0**14, 2.0**-8):
        up = torch.tensor(factor)
        loss = xloss.cross_entropy(z, y)
        want = both(z, y, cotangent=up)[1]
        wanted["cpu"].clear()
        for launches in (factor != 1, 1 + (factor != 1)):
            (got,) = torch.autograd.grad(loss, z, up, retain_graph=True)
            assert torch.equal(got, want)
            assert len(wanted["cpu"]) == launches


def test_packed_tensors_start_from_what_is_saved(wanted: dict[str, list[Any]]) -> None:
    """Where saved tensors are packed away, nothing of their size is kept beside them."""
    with torch.autograd.graph.saved_tensors_hooks(lambda a: a, lambda a: a):
        loss = xloss.cross_entropy(*data())
    loss.backward()
    assert [need.grad for need in wanted["cpu"]] == [False, True]


def test_a_batch_of_cotangents() -> None:
    """PyTorch's own batched tensors have no memory to read."""
    for classes in (5, 150):
        z, y = data(classes)
        ups = torch.tensor([1.0, 2.0, -0.5])
        loss = xloss.cross_entropy(z, y)
        (got,) = torch.autograd.grad(loss, z, ups, is_grads_batched=True, retain_graph=True)
        (one,) = torch.autograd.grad(loss, z)
        torch.testing.assert_close(got, ups[:, None, None] * one, rtol=2e-7, atol=0)


def test_a_compiled_graph(wanted: dict[str, list[Any]]) -> None:
    """A token stands for the gradient: it dies with a graph that is dropped.

    Offloaded and brought back as a copy it stands for nothing: the gradient is computed anew.
    """
    assert not torch_ahead._waiting
    z, y = data()
    got = torch.compile(xloss.cross_entropy, fullgraph=True, backend="aot_eager")
    loss = got(z, y)
    assert len(torch_ahead._waiting) == 1
    del loss
    gc.collect()
    assert not torch_ahead._waiting
    got(z, y).backward()
    assert not torch_ahead._waiting
    wanted["cpu"].clear()
    with torch.autograd.graph.saved_tensors_hooks(torch.clone, torch.clone):
        loss = got(z, y)
    assert torch.equal(torch.autograd.grad(loss, z)[0], z.grad)
    assert [outputs.grad for outputs in wanted["cpu"]] == [False, True]
