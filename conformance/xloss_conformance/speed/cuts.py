"""Logits that are cut: into chunks of a Dask array, or over processes that share the classes."""

from __future__ import annotations

from typing import Any

import numpy as np

from .contenders import AT_SCALE, SOME
from .work import Work

LIMIT = 120.0  # seconds that anything may take: whoever waits longer gives up
OPS = {"dask": "dask", "vocab-parallel": "ranks"}  # op -> AT_SCALE's key
DASK_SHAPE, DASK_CHUNKS = (4096, 32000), ((1024, 32000), (4096, 8000), (2048, 8000))
RANKS = (((4096, 32000), 2), ((2048, 128256), 2), ((4096, 32000), 4))
WORKERS = 2
PACE = {"seconds": 2.0, "least": 5, "most": 50}


def works(op: str, tiny: bool) -> list[Work]:
    """Return the calls that an operation times."""
    both = (False, True)
    if op == "dask":
        shape, chunks = DASK_SHAPE, DASK_CHUNKS
        if tiny:
            shape, chunks = (16, 60), ((4, 60), (16, 20), (8, 30))
        return [
            Work(op, shape, gradient, chunks=cut, processes=workers)
            for workers in (0, WORKERS)
            for cut in chunks
            for gradient in both
        ]
    ranks = (((8, 60), 2),) if tiny else RANKS
    return [Work(op, shape, gradient, processes=n) for shape, n in ranks for gradient in both]


def names(op: str) -> tuple[str, ...]:
    """Return who takes part."""
    return AT_SCALE[OPS[op]][1]


def spots(gradient: Any, labels: Any) -> Any:
    """Return entries of some rows of a gradient: those of the labels, and others far apart."""
    rows, classes = gradient.shape
    here = (labels >= 0) & (labels < classes)
    at = gradient[np.nonzero(here)[0], labels[here]]
    apart = gradient[:, :: max(1, -(-classes * rows // (SOME - rows)))]
    return np.concatenate([at, apart.reshape(-1)])[:SOME]
