"""`xloss engines --warm` of a GPU: plain calls of every dtype and length of row, which compile.

Kernels are compiled in processes side by side, each of which keeps what it compiles on disk: one
process compiles one kernel at a time, and there are about a hundred.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.util import find_spec
from itertools import product
from multiprocessing import get_context
from time import perf_counter
from typing import Any

import numpy as np

import xloss

from .backends import converter
from .output import fail

DTYPES = ("bfloat16", "float16", "float32", "float64")
# How a row is divided changes where its length doubles, and with where its rows begin.
LENGTHS = tuple(2**k for k in range(1, 19))
# The launch that computes few rows adds them up too; of more that is another kernel's.
ROWS = (2, 1100)
PROCESSES = 8  # each holds some hundred MB of the GPU's memory, and the longest rows some GB
Kernel = dict[str, Any]


def library() -> str:
    """Return whose arrays the kernels can be called with: of PyTorch, else of CuPy."""
    if find_spec("torch") is not None:
        import torch

        if torch.cuda.is_available():
            return "torch"
    if find_spec("cupy") is not None:
        return "cupy"
    fail("engine 'cuda': neither PyTorch built for CUDA nor CuPy is installed")


def warm(tell: Callable[[str, float], None] | None = None) -> list[Kernel]:
    """Compile the plain kernels, or find them on disk; tell of each length of row as it comes."""
    name = library()
    dtypes = [d for d in DTYPES if name == "torch" or d != "bfloat16"]
    workers = max(1, min(PROCESSES, (os.cpu_count() or 2) // 2))
    kernels: list[Kernel] = []
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        asked = [pool.submit(calls, name, *one) for one in product(dtypes, LENGTHS)]
        for done in as_completed(asked):
            called, seconds = done.result()
            kernels.append({"name": called, "seconds": seconds})
            if tell is not None:
                tell(called, seconds)
    return kernels


def calls(library: str, dtype: str, classes: int) -> tuple[str, float]:
    """Make the plain calls of rows that are so long, or one class shorter."""
    if dtype == "bfloat16":
        import ml_dtypes  # noqa: F401  # NumPy knows bfloat16 once this is imported
    convert = converter(library)
    start, left_out = perf_counter(), ""
    for length, rows in product((classes, classes - 1), ROWS):
        row = convert(np.zeros((1, length), np.dtype(dtype)))
        y = convert(np.zeros(rows, np.int64))
        try:
            x = row.repeat(rows, 1) if library == "torch" else row.repeat(rows, 0)
            with xloss.use_engine("cuda"):
                xloss.cross_entropy(x, y)
                xloss.value_and_grad(xloss.cross_entropy)(x, y)
                if library == "torch":
                    loss: Any = xloss.cross_entropy(x.requires_grad_(), y)
                    loss.backward()
        except Exception as error:
            if "OutOfMemory" not in type(error).__name__:
                raise
            left_out = f"; not for {rows} rows: out of memory"
    return f"cuda {dtype}, {classes:,} classes{left_out}", perf_counter() - start
