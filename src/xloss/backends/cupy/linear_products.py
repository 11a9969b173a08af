"""CuPy's products of 16-bit matrices: float32 results of tensor cores, through cuBLAS's own call.

``cupy.matmul`` returns 16 bits of 16 bits; ``cublasGemmEx`` returns float32, and adds to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..._arrays.context import Context
from ..._arrays.inspect import Array, dtype_name
from ...engines import gpu_arrays
from ..eager.linear_products import Products, row_length

# cudaDataType_t, and the least compute capability whose tensor cores take it.
_TYPES = {"float16": (2, 70), "bfloat16": (14, 80), "float32": (0, 0)}


def products(cx: Context, x: Array, weight: Array) -> Products | None:
    """Return what multiplies 16-bit matrices as they are, or None."""
    return TensorCores(cx, weight) if has_tensor_cores(weight) else None


def has_tensor_cores(weight: Array) -> bool:
    """Tell whether this GPU has tensor cores for the dtype: NVIDIA's."""
    import cupy

    if cupy.cuda.runtime.is_hip:
        return False
    home = gpu_arrays.of("cupy")
    return home.capability(home.index(weight)) >= _TYPES[dtype_name(weight.dtype)][1]


class TensorCores:
    """16-bit factors, float32 sums, and float32 results but for a sum that is kept in 16 bits."""

    def __init__(self, cx: Context, weight: Array) -> None:
        self.cx, self.weight, self.dtype = cx, weight, weight.dtype
        self.lifted = dtype_name(weight.dtype) == "float16"

    def gradient(self, z: Array) -> Array:
        """Return room in front of the logits."""
        xp = self.cx.xp
        rows, classes = z.shape
        step = row_length(classes)
        front = xp.reshape(z, (-1,)).view(self.dtype)[: rows * step]
        return xp.reshape(front, (rows, step))[:, :classes]

    def logits(self, x: Array, z: Array) -> None:
        """Put x @ weight.T into z."""
        self._multiply(x, self.weight.T, z)

    def features(self, g: Array, out: Array) -> None:
        """Put g @ weight into out."""
        self._multiply(g, self.weight, out)

    def add(self, total: Array, g: Array, x: Array, first: bool) -> None:
        """Add g.T @ x to the gradient to the weight; one in 16 bits is rounded once."""
        self._multiply(g.T, x, total, add=not first)

    def _multiply(self, a: Array, b: Array, out: Array, add: bool = False) -> None:
        """Put a @ b into out, which is in C order, or add it."""
        home = gpu_arrays.of(self.cx.library)
        if 0 in out.shape:
            return
        if not a.shape[1]:
            if not add:
                out[...] = 0.0
            return
        (a, a_across, a_step), (b, b_across, b_step) = _laid_out(home, a), _laid_out(home, b)
        kind = _TYPES[dtype_name(self.dtype)][0]
        one = np.ones((), np.float32)
        beta = np.asarray(add, np.float32)
        # cuBLAS counts in columns: in its eyes each matrix is its transpose, and outᵀ = bᵀ aᵀ.
        with _blas(home.index(out)) as (blas, handle):
            blas.gemmEx(
                handle,
                int(b_across),
                int(a_across),
                out.shape[1],
                out.shape[0],
                a.shape[1],
                one.ctypes.data,
                home.address(b),
                kind,
                b_step,
                home.address(a),
                kind,
                a_step,
                beta.ctypes.data,
                home.address(out),
                _TYPES[dtype_name(out.dtype)][0],
                out.shape[1],
                blas.CUBLAS_COMPUTE_32F,
                blas.CUBLAS_GEMM_DEFAULT,
            )


def _laid_out(home: Any, a: Array) -> tuple[Array, bool, int]:
    """Return a matrix, whether its columns lie one after another, and from one to the next."""
    rows, columns = a.shape
    down, along = home.steps(a)
    if along == 1 and (down >= columns or rows == 1):
        return a, False, max(down, columns)
    if down == 1 and (along >= rows or columns == 1):
        return a, True, max(along, rows)
    return home.in_order(a), False, columns


@contextmanager
def _blas(index: int) -> Iterator[tuple[Any, int]]:
    """Lend CuPy's handle of cuBLAS on a GPU, reading its factors from the host."""
    import cupy
    from cupy_backends.cuda.libs import cublas  # type: ignore[import-untyped]

    with cupy.cuda.Device(index):
        handle = cupy.cuda.device.get_cublas_handle()
        before = cublas.getPointerMode(handle)
        cublas.setPointerMode(handle, cublas.CUBLAS_POINTER_MODE_HOST)
        try:
            yield cublas, handle
        finally:
            cublas.setPointerMode(handle, before)
