"""CuPy arrays on the current GPU."""

from __future__ import annotations

from typing import Any

import cupy
import numpy as np

from ..model import Array, Missing
from .base import ArrayLibrary, strided


class CuPy(ArrayLibrary):
    name = "cupy"
    device = "cuda"
    module = cupy
    types = cupy.ndarray
    reads = False
    same_bits = False
    # CuPy compiles its kernels with -ftz=true, which is about single precision alone.
    flushes = ("float16", "float32")
    dtypes = ("float32", "float64", "float16")
    layouts = ("C", "F", "reversed", "strided", "broadcast")

    def __init__(self) -> None:
        try:
            count = cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError:
            count = 0
        if not count:
            raise Missing("cupy: CuPy finds no GPU: a machine with one, and its driver")

    def array(self, values: Array, layout: str = "C") -> Any:
        if layout == "F" and values.ndim and values.shape[0] == 1:
            # Alone a row would lie in C order: it is laid as one of two.
            return cupy.asarray(np.repeat(values, 2, axis=0), order="F")[:1]
        made = cupy.asarray(np.array(values), order="F" if layout == "F" else "C")
        if layout == "reversed":
            return cupy.flip(cupy.flip(made).copy())
        if layout == "strided" and made.ndim:
            return strided(made, lambda shape: cupy.zeros(shape, made.dtype))
        if layout == "broadcast" and made.ndim:
            return cupy.broadcast_to(made[:1].copy(), made.shape)
        return made

    def read(self, x: Any) -> Array:
        return np.asarray(cupy.asnumpy(x))
