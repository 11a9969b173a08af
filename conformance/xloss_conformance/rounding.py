"""The arguments of a case, rounded to the dtype in which a subject is given them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .model import FLOATING, Array, Case, Stored


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return NumPy's dtype of that name, bfloat16 included."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(str(np.dtype(ml_dtypes.bfloat16)))
    return np.dtype(name)


def stored(case: Case, dtype: str) -> Stored:
    """Return the arguments of a case, rounded to a dtype."""
    targets = case.targets
    if targets is not None:
        targets = rounded(targets, dtype) if targets.dtype.kind == "f" else targets.copy()
    options = {
        k: rounded(v, dtype) if k in FLOATING and isinstance(v, np.ndarray) else v
        for k, v in case.options.items()
    }
    x = rounded(case.x, dtype)
    if case.tile > 1:
        x = np.broadcast_to(x, (case.tile, *x.shape))
        targets = None if targets is None else np.broadcast_to(targets, (case.tile, *targets.shape))
    return Stored(x, targets, options, case.upstream, dtype)


def rounded(values: Any, dtype: str) -> Array:
    """Return numbers as a NumPy array of a dtype, bfloat16 included."""
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float64).astype(numpy_dtype(dtype))
