"""Calls like earlier ones on the CUDA engine: what they cost the host, what they still check."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

import xloss
from emulated import assert_same, both, emulated, inputs

torch = pytest.importorskip("torch", reason="pip install 'xloss[torch]'")

PACKAGE = str(Path(xloss.__file__).parent)


@pytest.mark.parametrize("rows", [8, 3000])
@pytest.mark.parametrize(
    ("name", "arrays", "entered"),
    # Arrays: the loss; its gradient; what backward starts from.
    [("value", 1, 24), ("value_and_grad", 2, 28), ("forward and backward", 3, 34)],
)
def test_little_is_allocated_and_few_functions_are_entered(
    name: str, rows: int, arrays: int, entered: int
) -> None:
    """On a GPU the kernels end before as many more functions could be entered."""
    z, y = inputs(rows, 40)
    leaf = z.clone().requires_grad_()
    call = {
        "value": lambda: xloss.cross_entropy(z, y),
        "value_and_grad": lambda: both(z, y),
        "forward and backward": lambda: xloss.cross_entropy(leaf, y).backward(),
    }[name]
    seen = []

    def look(frame: Any, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            seen.append(frame.f_code.co_name)

    with emulated() as gpu:
        call()
        call()
        makers = [Mock(wraps=make) for make in (gpu.home.empty, gpu.home.alike)]
        gpu.home.empty, gpu.home.alike = makers
        gpu.launches.clear()
        leaf.grad, before = None, sys.getprofile()
        sys.setprofile(look)
        try:
            call()
        finally:
            sys.setprofile(before)
    # Many rows take an array more, for what launches leave for each other, and their sums a launch.
    many = rows > 8
    assert sum(make.call_count for make in makers) == arrays + many
    launches = {"value": (1, 2), "value_and_grad": (1, 3), "forward and backward": (2, 4)}
    assert len(gpu.launches) == launches[name][many]
    assert 0 < len(seen) <= entered, seen


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((8, 40), -1), ((3, 7, 500), 1), ((3, 500, 7), -1)],
    ids=["few rows", "classes apart", "classes side by side"],
)
@pytest.mark.parametrize("freed", ["logits", "targets"])
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("left", [0, 4])
def test_memory_that_was_freed_is_not_read(
    shape: tuple[int, ...], axis: int, freed: str, backward: bool, left: int
) -> None:
    z, y = inputs(*shape, axis=axis)
    leaf = z.requires_grad_()
    x = leaf * 1
    with emulated() as gpu:
        for _ in range(2):
            xloss.cross_entropy(leaf, y, axis=axis).backward()
            xloss.cross_entropy(x.detach(), y, axis=axis)
        loss = xloss.cross_entropy(x, y, axis=axis)
        storage = (x if freed == "logits" else y).untyped_storage()
        storage.resize_(storage.nbytes() - left if left else 0)
        count = len(gpu.launches)
        # PyTorch itself refuses to move an axis of such a tensor.
        said = "storage" if axis == 1 else f"{freed}: .*storage holds fewer elements"
        with pytest.raises((ValueError, RuntimeError), match=said):
            loss.backward() if backward else xloss.cross_entropy(x.detach(), y, axis=axis)
        assert len(gpu.launches) == count


def test_a_part_of_a_larger_tensor_is_read_at_its_place() -> None:
    z, y = inputs(8, 40)
    larger = torch.cat([torch.full_like(z, 7.0), z])
    with emulated() as gpu:
        want = [xloss.cross_entropy(z, y), *both(z, y)]
        for _ in range(2):
            assert_same([xloss.cross_entropy(larger[8:], y), *both(larger[8:], y)], want)
        assert len(gpu.launches) == 6
        part = larger[8:]
        larger.untyped_storage().resize_(larger.untyped_storage().nbytes() - 4)
        with pytest.raises(ValueError, match="storage holds fewer elements"):
            xloss.cross_entropy(part, y)


def test_calls_first_made_in_inference_mode() -> None:
    """What is kept of them must not be a tensor that autograd refuses; nor is anything recorded."""
    z, y = inputs(8, 40)
    leaf = z.clone().requires_grad_()
    with emulated():
        for _ in range(2):
            with torch.inference_mode():
                want = both(z, y)
        for _ in range(2):
            leaf.grad = None
            loss = xloss.cross_entropy(leaf, y)
            loss.backward()
            assert_same((loss.detach(), leaf.grad), want)
            made = both(leaf, y)
            assert not any(a.requires_grad for a in made)
            assert_same(made, want)
        with torch.inference_mode():
            other = z.clone()
            assert torch.equal(xloss.cross_entropy(other, y), want[0])
        assert_same(both(other, y), want)
