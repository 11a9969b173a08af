"""CuPy's products of 16-bit matrices: float32 results from tensor cores, by a call of cuBLAS.

``cupy.matmul`` rounds the product of 16-bit matrices to 16 bits. ``cublasGemmEx`` returns it in
float32, and adds it to what the result holds already.
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

# cudaDataType_t, and the lowest compute capability whose tensor cores multiply it.
_TYPES = {"float16": (2, 70), "bfloat16": (14, 80), "float32": (0, 0)}


def products(cx: Context, x: Array, weight: Array) -> Products | None:
    """Return products that convert no 16-bit matrix, or None where this GPU has none."""
    return TensorCores(cx, weight) if has_tensor_cores(weight) else None


def has_tensor_cores(weight: Array) -> bool:
    """Tell whether this GPU is NVIDIA's and has tensor cores for the dtype."""
    import cupy

    if cupy.cuda.runtime.is_hip:
        return False
    arrays = gpu_arrays.of("cupy")
    needed = _TYPES[dtype_name(weight.dtype)][1]
    return bool(arrays.capability(arrays.index(weight)) >= needed)


class TensorCores:
    """16-bit matrices multiplied by tensor cores, which add up in float32.

    Results are float32, but for the gradient to a weight that is summed in 16 bits.
    """

    def __init__(self, cx: Context, weight: Array) -> None:
        self.cx, self.weight, self.dtype = cx, weight, weight.dtype
        self.lifted = dtype_name(weight.dtype) == "float16"

    def gradient(self, z: Array) -> Array:
        """Return the memory of a block's gradient, which begins where that of its logits does."""
        xp = self.cx.xp
        rows, classes = z.shape
        length = row_length(classes)
        front = xp.reshape(z, (-1,)).view(self.dtype)[: rows * length]
        return xp.reshape(front, (rows, length))[:, :classes]

    def logits(self, x: Array, z: Array) -> None:
        """Put x @ weight.T into z."""
        self._multiply(x, self.weight.T, z)

    def features(self, g: Array, out: Array) -> None:
        """Put g @ weight into out."""
        self._multiply(g, self.weight, out)

    def add(self, total: Array, g: Array, x: Array, first: bool) -> None:
        """Add g.T @ x to the gradient to the weight; one in 16 bits is rounded once a block."""
        self._multiply(g.T, x, total, add=not first)

    def _multiply(self, a: Array, b: Array, out: Array, add: bool = False) -> None:
        """Put a @ b into out, which is in C order, or add it to out."""
        arrays = gpu_arrays.of(self.cx.library)
        if 0 in out.shape:
            return
        if not a.shape[1]:  # a sum over no element
            if not add:
                out[...] = 0.0
            return
        (a, a_by_columns, a_step), (b, b_by_columns, b_step) = (
            _laid_out(arrays, a),
            _laid_out(arrays, b),
        )
        kind = _TYPES[dtype_name(self.dtype)][0]
        one = np.ones((), np.float32)
        beta = np.asarray(add, np.float32)
        # cuBLAS takes matrices by columns. It reads a matrix by rows as its transpose, so that it
        # is asked for outᵀ = bᵀ aᵀ.
        with _blas(arrays.index(out)) as (blas, handle):
            blas.gemmEx(
                handle,
                int(b_by_columns),
                int(a_by_columns),
                out.shape[1],
                out.shape[0],
                a.shape[1],
                one.ctypes.data,
                arrays.address(b),
                kind,
                b_step,
                arrays.address(a),
                kind,
                a_step,
                beta.ctypes.data,
                arrays.address(out),
                _TYPES[dtype_name(out.dtype)][0],
                out.shape[1],
                blas.CUBLAS_COMPUTE_32F,
                blas.CUBLAS_GEMM_DEFAULT,
            )


def _laid_out(arrays: Any, a: Array) -> tuple[Array, bool, int]:
    """Return a matrix as cuBLAS takes it, whether it lies by columns, and its leading dimension.

    The last is the number of elements from a row to the next, or from a column to the next.
    """
    rows, columns = a.shape
    row_step, column_step = arrays.steps(a)
    if column_step == 1 and (row_step >= columns or rows == 1):
        return a, False, max(row_step, columns)
    if row_step == 1 and (column_step >= rows or columns == 1):
        return a, True, max(column_step, rows)
    return arrays.in_order(a), False, columns


@contextmanager
def _blas(index: int) -> Iterator[tuple[Any, int]]:
    """Lend CuPy's cuBLAS handle on a GPU, set to read alpha and beta from host memory."""
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
