"""Tensor cores on the host: what PyTorch and CuPy offer of them on a GPU alone, by other means.

PyTorch's products of 16 bits that return float32 have no kernel for the CPU: one is registered.
CuPy's cuBLAS is one that reads the same addresses, column by column as cuBLAS does.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import xloss
from emulated import Gpu, emulated

FLOAT, HALF = 0, 2  # cudaDataType_t


@cache
def _registered() -> Any:
    """Give the host the two operations, for as long as the process lives."""
    import torch

    def right(out_dtype: Any, out: Any, *factors: Any) -> None:
        assert out_dtype == out.dtype == torch.float32
        assert {f.dtype for f in factors} <= {torch.bfloat16, torch.float16}
        assert factors[0].dtype == factors[1].dtype

    def mm(a: Any, b: Any, out_dtype: Any, *, out: Any) -> Any:
        right(out_dtype, out, a, b)
        return out.copy_(a.float() @ b.float())

    def addmm(total: Any, a: Any, b: Any, out_dtype: Any, *, out: Any, **factors: Any) -> Any:
        right(out_dtype, out, a, b)
        return out.copy_(total + a.float() @ b.float())

    made = torch.library.Library("aten", "IMPL")
    made.impl("mm.dtype_out", mm, "CPU")
    made.impl("addmm.dtype_out", addmm, "CPU")
    return made


class Blas:
    """cublasGemmEx on memory of the host."""

    CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT = 68, -1

    def __init__(self) -> None:
        self.products: list[tuple[int, int, int]] = []

    def gemmEx(self, handle: int, *given: Any) -> None:
        ta, tb, m, n, k, alpha, a, a_kind, lda, b, b_kind, ldb, beta, c, c_kind, ldc, *how = given
        assert how == [68, -1]
        assert a_kind == b_kind == HALF
        assert c_kind == FLOAT
        out = columns(c, FLOAT, m, n, ldc)
        left = columns(a, HALF, *((k, m) if ta else (m, k)), lda).astype(np.float32)
        right = columns(b, HALF, *((n, k) if tb else (k, n)), ldb).astype(np.float32)
        one, again = (ctypes.c_float.from_address(v).value for v in (alpha, beta))
        made = one * (left.T if ta else left) @ (right.T if tb else right)
        # With a factor of 0 what is there is not read.
        out[...] = made + again * out if again else made
        self.products.append((m, n, k))


def columns(address: int, kind: int, rows: int, count: int, step: int) -> Any:
    """A matrix in memory, column after column."""
    assert step >= rows
    dtype = np.dtype(np.float16 if kind == HALF else np.float32)
    size = step * (count - 1) + rows
    raw = (ctypes.c_char * (size * dtype.itemsize)).from_address(address)
    flat = np.frombuffer(raw, dtype)
    strides = (dtype.itemsize, step * dtype.itemsize)
    return np.lib.stride_tricks.as_strided(flat, (rows, count), strides)


@contextmanager
def torch_cores() -> Iterator[Gpu]:
    """Take PyTorch's CPU for a GPU that has tensor cores."""
    pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
    from xloss.backends.torch import linear_products

    _registered()
    with emulated() as gpu, pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear_products, "has_tensor_cores", lambda weight: True)
        yield gpu


@contextmanager
def cupy_cores() -> Iterator[SimpleNamespace]:
    """The same of the array that stands in for CuPy's."""
    from xloss.backends.cupy import linear_products

    blas = Blas()

    @contextmanager
    def lent(index: int) -> Iterator[tuple[Any, int]]:
        yield blas, 0

    with emulated(library="cupy") as gpu, pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear_products, "has_tensor_cores", lambda weight: True)
        patch.setattr(linear_products, "_blas", lent)
        yield SimpleNamespace(gpu=gpu, blas=blas)


gradients = xloss.value_and_grad(xloss.linear_cross_entropy, (0, 1))


@contextmanager
def on(place: str) -> Iterator[Gpu | None]:
    """A GPU's way, with or without tensor cores, or the host's."""
    gpu = {"host": nullcontext, "no tensor cores": emulated}.get(place, torch_cores)
    with gpu() as made, xloss.use_engine("generic") if place == "generic" else nullcontext():
        yield made


def tensor(values: Any, kind: str) -> Any:
    import torch

    values = torch.tensor(values)
    return values.to(getattr(torch, kind)) if values.is_floating_point() else values


@pytest.fixture(scope="module")
def large() -> Any:
    """96 rows of 40 features and 1003 classes in bfloat16."""
    rng = np.random.default_rng(1)
    x, w = (tensor(rng.standard_normal(shape), "bfloat16") for shape in ((96, 40), (1003, 40)))
    return x, w, tensor(rng.integers(0, 1003, 96), "bfloat16")
