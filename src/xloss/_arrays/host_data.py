"""NumPy arrays beside logits of another library: data of the host, moved to where the logits are.

Labels and weights come from a data loader, which knows nothing of the model's library; under a
compiler NumPy arguments are taken too, so that eager calls must not refuse them.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from .context import Context
from .inspect import FLOATS, INTEGERS, Array, compiling, dtype_name, is_odd

HostArray = npt.NDArray[Any]


def is_host(x: Any) -> bool:
    """Tell whether an argument is a plain array or scalar of NumPy."""
    # A tuple of types: torch.compile traces no union of them.
    return isinstance(x, (np.ndarray, np.generic)) and not is_odd(x)


def movable(x: Any) -> bool:
    """Tell whether the standard has the array's dtype, or it is one of 16 bits."""
    name = dtype_name(x.dtype)
    return name in FLOATS or name in INTEGERS or name == "bool"


def moved(x: Any, cx: Context) -> Array:
    """Return a NumPy array as one of the logits' library, on their device; values are kept.

    But for float64 where the device has none: there all arithmetic is in float32.
    """
    if cx.library == "torch" and compiling():
        return sys.modules["torch"].as_tensor(x, device=cx.device)
    values = np.asarray(x, order="C")
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    name = dtype_name(values.dtype)
    if name == "float64" and dtype_name(cx.sum_dtype) != name:
        with np.errstate(over="ignore"):
            values = values.astype(np.float32)
    elif name in ("int64", "uint64") and dtype_name(cx.label_dtype) == "int32":
        values = narrowed(values, None)[0]
    elif FLOATS.get(name) == 16 and not cx.takes_half(name):
        values = values.astype(np.float32)  # which holds each of its values
    return cx.from_host(values)


def fitted(targets: Any, ignore: Any, cx: Context) -> tuple[Any, Any]:
    """Return labels that the library's integers hold, and the label that is ignored.

    JAX without 64 bits would take 2^32 + 1 for 1, silently.
    """
    if cx.library == "numpy" or dtype_name(cx.label_dtype) != "int32" or not is_host(targets):
        return targets, ignore
    if dtype_name(targets.dtype) not in ("int64", "uint64") or isinstance(ignore, bool):
        return targets, ignore
    return narrowed(np.asarray(targets), ignore)


def narrowed(labels: HostArray, ignore: Any) -> tuple[HostArray, Any]:
    """Return 64-bit labels in 32 bits: those that do not fit become a bad label, or the ignored."""
    least, most = INTEGERS["int32"]
    inside = (labels >= least) & (labels <= most)
    if inside.all():
        return labels.astype(np.int32), ignore
    bad = -2 if ignore == -1 else -1
    out = np.where(inside, labels, 0).astype(np.int32)
    out[~inside] = bad
    if isinstance(ignore, int | np.integer) and not least <= ignore <= most:
        out[labels == ignore] = least  # of labels none is so low but by mistake
        ignore = least
    return out, ignore
