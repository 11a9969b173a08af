"""Calls like earlier ones on the CUDA engine: what they cost the host, what they still check."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import xloss
from emulated import COMPILER, emulated

torch = pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
pytestmark = pytest.mark.skipif(
    COMPILER is None, reason="no g++ here, which compiles the kernels for the host"
)

PACKAGE = str(Path(xloss.__file__).parent)
both = xloss.value_and_grad(xloss.cross_entropy)


def inputs(rows: int = 8) -> tuple[Any, Any, Any]:
    """Logits, the same as a leaf, and labels."""
    z = torch.randn(rows, 40, generator=torch.Generator().manual_seed(3))
    return z, z.clone().requires_grad_(), torch.arange(rows) % 40


@contextmanager
def warm(rows: int = 8) -> Iterator[tuple[Any, dict[str, Callable[[], Any]]]]:
    """The emulated GPU, and calls that have been made before."""
    z, leaf, y = inputs(rows)
    calls: dict[str, Callable[[], Any]] = {
        "value": lambda: xloss.cross_entropy(z, y),
        "value_and_grad": lambda: both(z, y),
        "forward and backward": lambda: xloss.cross_entropy(leaf, y).backward(),
    }
    with emulated() as gpu:
        for call in (*calls.values(), *calls.values()):
            call()
        leaf.grad = None
        yield gpu, calls


@pytest.mark.parametrize(
    ("name", "rows", "arrays", "launches"),
    # The loss; its gradient; what backward starts from. Beside them, of many rows, what launches
    # leave for each other.
    [
        ("value", 8, 1, 1),
        ("value_and_grad", 8, 2, 1),
        ("forward and backward", 8, 3, 2),
        ("value", 3000, 2, 2),
        ("value_and_grad", 3000, 3, 3),
        ("forward and backward", 3000, 4, 4),
    ],
)
def test_only_what_is_returned_or_kept_is_allocated(
    name: str, rows: int, arrays: int, launches: int
) -> None:
    with warm(rows) as (gpu, calls):
        made = []

        def counted(make: Any) -> Any:
            def counting(*given: Any) -> Any:
                made.append(make(*given))
                return made[-1]

            return counting

        for maker in ("empty", "empty_like", "alike"):
            setattr(gpu.home, maker, counted(getattr(gpu.home, maker)))
        gpu.launches.clear()
        calls[name]()
        assert len(made) == arrays
        assert len(gpu.launches) == launches


@pytest.mark.parametrize(
    ("name", "rows", "most"),
    [
        ("value", 8, 24),
        ("value_and_grad", 8, 28),
        ("forward and backward", 8, 34),
        ("value", 3000, 24),
        ("value_and_grad", 3000, 28),
        ("forward and backward", 3000, 34),
    ],
)
def test_few_functions_are_entered(name: str, rows: int, most: int) -> None:
    """On a GPU the kernels end before as many more could be entered."""
    entered = []

    def look(frame: Any, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            entered.append(frame.f_code.co_name)

    with warm(rows) as (_, calls):
        before = sys.getprofile()
        sys.setprofile(look)
        try:
            calls[name]()
        finally:
            sys.setprofile(before)
    assert 0 < len(entered) <= most, entered


@pytest.mark.parametrize("freed", ["logits", "targets"])
@pytest.mark.parametrize("left", [0, 4])
def test_memory_that_was_freed_is_not_read(freed: str, left: int) -> None:
    for backward in (False, True):
        z, leaf, y = inputs()
        x = leaf * 1 if backward else z
        with emulated():
            for _ in range(2):
                xloss.cross_entropy(x, y)
                xloss.cross_entropy(leaf, y).backward()
            loss = xloss.cross_entropy(x, y)
            storage = (x if freed == "logits" else y).untyped_storage()
            storage.resize_(storage.nbytes() - left if left else 0)
            with pytest.raises(ValueError, match=f"{freed}: .*storage holds fewer elements"):
                loss.backward() if backward else xloss.cross_entropy(x, y)


def test_a_part_of_a_larger_tensor_is_read_at_its_place() -> None:
    z, _, y = inputs()
    larger = torch.cat([torch.full_like(z, 7.0), z])
    with emulated() as gpu:
        want = [xloss.cross_entropy(z, y), *both(z, y)]
        for _ in range(2):
            got = [xloss.cross_entropy(larger[8:], y), *both(larger[8:], y)]
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
        assert len(gpu.launches) == 6
        part = larger[8:]
        larger.untyped_storage().resize_(larger.untyped_storage().nbytes() - 4)
        with pytest.raises(ValueError, match="storage holds fewer elements"):
            xloss.cross_entropy(part, y)


def test_value_and_grad_records_nothing() -> None:
    _, leaf, y = inputs()
    with emulated():
        made = [both(leaf, y) for _ in range(3)]
    for value, grad in made:
        assert value.grad_fn is None
        assert grad.grad_fn is None
        assert not value.requires_grad
        assert not grad.requires_grad
        assert torch.equal(value, made[0][0])
        assert torch.equal(grad, made[0][1])


def test_calls_first_made_in_inference_mode() -> None:
    """What is kept of them must not be a tensor that autograd refuses."""
    z, leaf, y = inputs()
    with emulated():
        with torch.inference_mode():
            for _ in range(2):
                want, grad = both(z, y)
                xloss.cross_entropy(z, y)
        for _ in range(2):
            leaf.grad = None
            loss = xloss.cross_entropy(leaf, y)
            loss.backward()
        assert torch.equal(loss.detach(), want)
        assert torch.equal(leaf.grad, grad)
        inside = z.clone()
        with torch.inference_mode():
            other = z.clone()
            assert torch.equal(xloss.cross_entropy(other, y), want)
        assert torch.equal(xloss.cross_entropy(inside, y), want)
        assert torch.equal(both(other, y)[1], grad)
