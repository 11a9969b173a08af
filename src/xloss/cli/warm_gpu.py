"""Run `xloss engines --warm` on a GPU: call losses of every dtype and row length once.

A call compiles its kernel and keeps it on disk. There are about a hundred kernels and a process
compiles one at a time, so several processes share them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import product
from multiprocessing import get_context
from time import perf_counter
from typing import Any

import numpy as np

import xloss

from .array_libraries import converter, library
from .output import fail

DTYPES = ("bfloat16", "float16", "float32", "float64")
# The kernel changes where the length of a row doubles, and with the alignment of the rows.
LENGTHS = tuple(2**k for k in range(1, 19))
# One kernel computes few rows and their sum; of more rows another kernel makes the sum.
ROWS = (2, 1100)
PROCESSES = 8  # each takes some hundred MB of the GPU's memory, and a few GB for the longest rows


def gpu_library() -> str:
    """Return the array library to call the kernels with: PyTorch if it has a GPU, else CuPy."""
    for name in ("torch", "cupy"):
        if any(device.startswith("cuda") for device in library(name)["devices"]):
            return name
    fail("engine 'cuda': neither PyTorch built for CUDA nor CuPy is installed")


def warm() -> Iterator[tuple[str, float]]:
    """Compile the usual kernels, or load them from disk; yield name and seconds by row length."""
    name = gpu_library()
    dtypes = [d for d in DTYPES if name == "torch" or d != "bfloat16"]
    workers = max(1, min(PROCESSES, (os.cpu_count() or 2) // 2))
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        asked = [pool.submit(calls, name, *one) for one in product(dtypes, LENGTHS)]
        for done in as_completed(asked):
            yield done.result()


def calls(name: str, dtype: str, classes: int) -> tuple[str, float]:
    """Call the losses on rows of this length, and on rows one class shorter."""
    if dtype == "bfloat16":
        import ml_dtypes  # noqa: F401  # NumPy knows bfloat16 once this is imported
    convert = converter(name)
    start, left_out = perf_counter(), ""
    for length, rows in product((classes, classes - 1), ROWS):
        row = convert(np.zeros((1, length), np.dtype(dtype)))
        y = convert(np.zeros(rows, np.int64))
        try:
            x = row.repeat(rows, 1) if name == "torch" else row.repeat(rows, 0)
            with xloss.use_engine("cuda"):
                xloss.cross_entropy(x, y)
                xloss.value_and_grad(xloss.cross_entropy)(x, y)
                if name == "torch":
                    loss: Any = xloss.cross_entropy(x.requires_grad_(), y)
                    loss.backward()
        except Exception as error:
            if "OutOfMemory" not in type(error).__name__:
                raise
            left_out = f"; not for {rows} rows: out of memory"
    return f"cuda {dtype}, {classes:,} classes{left_out}", perf_counter() - start
