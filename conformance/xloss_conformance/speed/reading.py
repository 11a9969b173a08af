"""What bounds a loss: reading its logits once, by the fastest reader; or its matrix products."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from math import ceil

import numpy as np

from .clock import Call
from .work import Data, Work

BLOCKS = (256, 1024, 4096)  # rows of logits that are held at once


def bounds(work: Work, given: Data, threads: int) -> dict[str, Call]:
    """Return calls that do what every implementation must; the fastest of them is the bound."""
    if not work.features:
        return _readers(work.nbytes, threads)
    if not find_spec("torch"):
        return {}
    from .by_torch import matmuls

    blocks = [n for n in BLOCKS if n <= len(given.x)] or [len(given.x)]
    return {f"torch.matmul, {n} rows at a time": matmuls(work, given, n) for n in blocks}


def _readers(nbytes: int, threads: int) -> dict[str, Call]:
    """Return calls that read so many bytes once, on so many threads."""
    values = np.ones(max(threads, nbytes // 4), np.float32)
    found = {f"numpy.max, {threads} threads": _numpy(values, threads)}
    if find_spec("torch"):
        import torch

        tensor = torch.from_numpy(values)
        found[f"torch.sum, {threads} threads"] = Call(lambda: torch.sum(tensor))
    return found


def _numpy(values: np.ndarray[tuple[int], np.dtype[np.float32]], threads: int) -> Call:
    size = ceil(len(values) / threads)
    first, *rest = (values[start : start + size] for start in range(0, len(values), size))
    pool = ThreadPoolExecutor(max(1, len(rest)))

    def run() -> float:
        others = [pool.submit(np.max, part) for part in rest]
        return max(float(np.max(first)), *(float(o.result()) for o in others), 0.0)

    return Call(run)
