"""PyTorch's products of 16-bit matrices: float32 logits from tensor cores, oneDNN's on the host.

Every product writes into an array that is given: those are the calls that autocast leaves alone.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from ..._arrays.context import Context
from ..._arrays.inspect import Array
from ...core import linear as cutting
from ..eager.linear_products import Converted, Products, row_length

_PLAIN = (torch.Tensor, torch.nn.Parameter)
_SLICE = 2**24  # elements of a product that is made before it is added to a sum


def products(cx: Context, x: Array, weight: Array) -> Products | None:
    """Return products that take 16-bit matrices without conversion, or None."""
    if type(x) not in _PLAIN or type(weight) not in _PLAIN:
        return None
    if not cx.on_host:
        return TensorCores(weight) if has_tensor_cores(weight) else None
    # oneDNN returns float16 products in float16, which overflows at 65504: bfloat16 only.
    if weight.dtype == torch.bfloat16 and _host_multiplies():
        return OnHost(cx, weight)
    return None


def has_tensor_cores(weight: Array) -> bool:
    """Tell whether PyTorch (2.8 and later, CUDA) returns 16-bit products in float32 on this GPU."""
    if not weight.is_cuda or torch.version.hip is not None:
        return False
    if not hasattr(torch.ops.aten.mm, "dtype_out") or torch.cuda.tunable.is_enabled():
        return False
    major, _ = torch.cuda.get_device_capability(weight.device)
    return bool(major >= (8 if weight.dtype == torch.bfloat16 else 7))


@cache
def _host_multiplies() -> bool:
    """Tell whether this processor has bfloat16 products."""
    return bool(torch._C._has_mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported())


@cache
def _adds_in_float32(device: Any, dtype: Any) -> bool:
    """Tell whether this release of PyTorch adds a 16-bit product to a float32 array in one step."""
    a = torch.zeros(16, 16, dtype=dtype, device=device)
    total = torch.zeros(16, 16, dtype=torch.float32, device=device)
    try:
        torch.addmm(total, a, a, out_dtype=torch.float32, out=total)
    except RuntimeError:
        return False
    return True


class _Short:
    row_length = staticmethod(row_length)

    def __init__(self, weight: Array) -> None:
        self.weight, self.dtype = weight.detach(), weight.dtype
        self.lifted = weight.dtype == torch.float16

    def gradient(self, z: Array) -> Array:
        """Return room for the gradient in the memory of the logits."""
        rows, classes = z.shape
        step = self.row_length(classes)
        front = z.view(-1).view(self.dtype)[: rows * step]
        return front.view(rows, step)[:, :classes]

    def add_short(self, total: Array, g: Array, x: Array, first: bool) -> None:
        """Add g.T @ x to a gradient to the weight in 16 bits: each block is rounded once."""
        if first:
            torch.mm(g.T, x, out=total)
        else:
            total.addmm_(g.T, x)


class TensorCores(_Short):
    """16-bit factors and float32 sums; results in float32, except a gradient kept in 16 bits."""

    def logits(self, x: Array, z: Array) -> None:
        """Put x @ weight.T into z."""
        torch.mm(x, self.weight.T, out_dtype=torch.float32, out=z)

    def features(self, g: Array, out: Array) -> None:
        """Put g @ weight into out."""
        torch.mm(g, self.weight, out_dtype=torch.float32, out=out)

    def add(self, total: Array, g: Array, x: Array, first: bool) -> None:
        """Add g.T @ x to the gradient to the weight."""
        if total.dtype == self.dtype:
            self.add_short(total, g, x, first)
        elif first:
            torch.mm(g.T, x, out_dtype=torch.float32, out=total)
        elif _adds_in_float32(total.device, self.dtype):
            torch.addmm(total, g.T, x, out_dtype=torch.float32, out=total)
        else:
            few = max(1, _SLICE // max(1, total.shape[1]))
            for c in cutting.spans(total.shape[0], few):
                made = torch.empty_like(total[c])
                total[c] += torch.mm(g.T[c], x, out_dtype=torch.float32, out=made)


class OnHost(_Short):
    """bfloat16 by oneDNN, which sums in float32 and returns bfloat16: too coarse for logits."""

    @staticmethod
    def row_length(classes: int) -> int:
        """Leave no gap between rows: with AMX oneDNN multiplies a gap by 0, and it may hold NaN."""
        return classes

    def __init__(self, cx: Context, weight: Array) -> None:
        super().__init__(weight)
        self.whole = Converted(cx, self.weight)

    def logits(self, x: Array, z: Array) -> None:
        """Put x @ weight.T into z: in float32, class slices of the weight converted one by one."""
        self.whole.logits(x.float(), z)

    def features(self, g: Array, out: Array) -> None:
        """Put g @ weight into out."""
        made = torch.empty(out.shape, dtype=self.dtype)
        out.copy_(torch.mm(g, self.weight, out=made))

    def add(self, total: Array, g: Array, x: Array, first: bool) -> None:
        """Add g.T @ x to the gradient to the weight: each block's share is rounded once."""
        if total.dtype == self.dtype:
            self.add_short(total, g, x, first)
            return
        made = torch.empty(self.whole.few, x.shape[1], dtype=self.dtype)
        for c in cutting.spans(total.shape[0], self.whole.few):
            share = torch.mm(g.T[c], x, out=made[: c.stop - c.start])
            if first:
                total[c] = share
            else:
                total[c] += share
