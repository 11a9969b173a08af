"""What 16-bit linear_cross_entropy multiplies and holds: no weight in float32, no room exceeded."""

from __future__ import annotations

from typing import Any

import pytest

import xloss
from linear_short import gradients, large, on
from xloss._arrays.context import context
from xloss._arrays.inspect import namespace
from xloss.core import linear as cutting

torch = pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
__all__ = ["large"]  # a fixture


class Operations(torch.utils._python_dispatch.TorchDispatchMode):
    """Every operation that makes float32, the most of it, and the products among them."""

    def __init__(self) -> None:
        super().__init__()
        self.wide: dict[str, int] = {}
        self.products: list[list[Any]] = []

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out, name = op(*args, **(kwargs or {})), str(op)
        if name.startswith(("aten.mm", "aten.addmm", "aten.matmul", "aten.bmm")):
            self.products.append([a.dtype for a in args if torch.is_tensor(a)])
        if torch.is_tensor(out) and out.dtype == torch.float32 and out.ndim:
            # Of memory, not of elements: a number expanded takes none.
            size = out.untyped_storage().nbytes() // 4
            self.wide[name] = max(size, self.wide.get(name, 0))
        return out


@pytest.mark.parametrize("way", ["value", "value_and_grad", "autograd"])
@pytest.mark.parametrize("place", ["cuda", "host"])
def test_a_16_bit_weight_is_never_whole_in_float32(place, way, large, monkeypatch):
    """Nor its gradient, where there is no room; and no tensor core waits for a float32 product."""
    x, w, y = (a.clone() for a in large)
    monkeypatch.setattr(cutting, "WEIGHT_CHUNK", w.numel() // 8)
    monkeypatch.setattr(cutting, "GPU_BUDGET_BYTES", 4 * 16 * w.shape[0])
    seen = Operations()
    if way == "autograd":
        x.requires_grad_(), w.requires_grad_()
    with on(place), seen:
        if way == "value_and_grad":
            gradients(x, w, y, block_rows=16)
        else:
            loss = xloss.linear_cross_entropy(x, w, y, block_rows=16)
            if way == "autograd":
                (loss / 3).backward()
    assert seen.products
    assert max(seen.wide.values()) <= w.numel() // 2, seen.wide  # 16 rows of logits are 0.4 of it
    if place == "cuda":
        for dtypes in seen.products:
            assert torch.float32 not in dtypes[:2]


def test_a_product_that_cannot_add_to_float32_adds_pieces(large, monkeypatch):
    """PyTorch 2.8 refuses a float32 sum beside 16-bit factors."""
    from xloss.backends.torch import linear_products as products

    x, w, y = large
    with on("cuda"):
        want = gradients(x, w, y, block_rows=16)[1][1]
        monkeypatch.setattr(products, "_adds_in_float32", lambda device, dtype: False)
        monkeypatch.setattr(products, "_SLICE", 1000)
        got = gradients(x, w, y, block_rows=16)[1][1]
    torch.testing.assert_close(got, want, rtol=0, atol=0)


def test_blocks_and_sums_of_a_gpu_stay_in_768_mib():
    """Logits, float32 sums, one piece of gradients, a block's own features and their gradient: with
    64 MiB left for what the products themselves need."""
    cx = context(torch.empty(0), namespace(torch.empty(0)))._replace(on_host=False)
    for rows, width, classes in [
        (8192, 4096, 131072),
        (8192, 3584, 151936),
        (4096, 768, 50257),
        (2**20, 1024, 1000),
    ]:
        sizes = {"x": rows * width, "weight": classes * width}
        sums = sum(cutting.wide_sums(sizes, "bfloat16").values())
        linear = cutting.Linear(None, None, None)
        step = cutting.block_rows(rows, classes, linear, cx, sums, 6 * width)
        few = min(step, cutting.engine_rows(classes, cx, True))
        beyond = sums + 4 * step * classes + 4 * few * classes + 6 * step * width
        assert beyond <= (768 - 64) * 2**20, (rows, width, classes)
        assert step == rows or step % 128 == 0
    assert cutting.block_rows(8192, 131072, linear, cx, 0, 6 * 4096) == 1024
