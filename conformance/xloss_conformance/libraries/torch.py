"""PyTorch tensors, on the host and on CUDA."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..model import Array, Missing
from .base import ArrayLibrary, Arrays, Differentiated, Function, is_tile, laid_out, strided


class Torch(ArrayLibrary):
    name = "torch"
    module = torch
    types = torch.Tensor
    gradients = "autograd"
    device = "cpu"
    # No negative strides, no read-only memory.
    layouts: tuple[str, ...] = ("C", "F", "strided", "broadcast", "misaligned")

    def array(self, values: Array, layout: str = "C") -> Any:
        if values.dtype.name == "bfloat16":
            bits = torch.from_numpy(laid_out(values.view(np.int16), layout).copy(order="K"))
            made = bits.view(torch.bfloat16)
        elif layout == "C" and is_tile(values):
            return torch.from_numpy(values[0].copy()).to(self.device).expand(values.shape)
        else:
            made = torch.from_numpy(np.array(values))
        return self._laid(made.to(self.device), layout)

    def _laid(self, x: Any, layout: str) -> Any:
        if layout == "F" and x.ndim:
            order = tuple(reversed(range(x.ndim)))
            if x.shape[0] == 1:
                # Alone a row would lie in C order: it is laid as one of two.
                return self._laid(x.repeat(2, *[1] * (x.ndim - 1)), layout)[:1]
            return x.permute(order).contiguous().permute(order)
        if layout == "strided" and x.ndim:
            return strided(x, x.new_zeros)
        if layout == "misaligned" and x.numel():
            room = bytearray(1) + x.numpy().tobytes()
            return torch.frombuffer(room, dtype=x.dtype, offset=1).reshape(x.shape)
        if layout == "broadcast" and x.ndim:
            return x[:1].clone().expand(x.shape)
        return x.contiguous()

    def read(self, x: Any) -> Array:
        x = x.detach().cpu()
        return np.asarray((x.float() if x.dtype == torch.bfloat16 else x).numpy())

    def dtype(self, x: Any) -> str:
        return str(x.dtype).removeprefix("torch.")

    def misplaced(self, x: Any) -> str | None:
        wrong = super().misplaced(x)
        if wrong or x.device.type == self.device:
            return wrong
        return f"on {x.device}, not {self.device}"

    def differentiate(self, function: Function, arguments: Arrays, upstream: Any) -> Differentiated:
        leaves = tuple(x.detach().requires_grad_() for x in arguments)
        value = function(*leaves)
        if not isinstance(value, torch.Tensor):
            return value, tuple(None for _ in leaves)
        # What the value does not depend on has a gradient of 0, as JAX says too.
        zeros = tuple(torch.zeros_like(x) for x in leaves)
        if not value.requires_grad:
            return value, zeros
        cotangent = torch.as_tensor(upstream, dtype=value.dtype, device=value.device)
        grads: Any = torch.autograd.grad(
            value, leaves, cotangent.expand(value.shape), allow_unused=True
        )
        found = (z if g is None else g for g, z in zip(grads, zeros, strict=True))
        return value.detach(), tuple(found)


class Cuda(Torch):
    name = "cuda"
    layouts = ("C", "F", "strided", "broadcast")  # PyTorch allocates them aligned
    device = "cuda"
    reads = False
    same_bits = False

    def __init__(self) -> None:
        if not torch.cuda.is_available():
            raise Missing("cuda: PyTorch finds no GPU: a machine with one, and a CUDA build")
