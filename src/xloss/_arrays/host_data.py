"""NumPy arrays beside logits of another library are moved to where the logits are.

Labels and weights often come from a data loader that does not know the model's library. JAX and
torch.compile take NumPy arguments as well, so that an eager call must not refuse what a compiled
one takes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .context import Context
from .inspect import FLOATS, INTEGERS, Array, compiling, dtype_name, is_odd, torch_module

# The dtypes of 16 bits that a library takes from NumPy; the others arrive as float32.
HALVES = {
    **dict.fromkeys(("torch", "jax", "tensorflow"), ("float16", "bfloat16")),
    **dict.fromkeys(("cupy", "dask"), ("float16",)),
}

HostArray = npt.NDArray[Any]


def is_host(x: Any) -> bool:
    """Tell whether an argument is a plain array or scalar of NumPy."""
    # A tuple of types: torch.compile traces no union of them.
    return isinstance(x, (np.ndarray, np.generic)) and not is_odd(x)


def movable(x: Any) -> bool:
    """Tell whether a NumPy array has a dtype of the standard, or float16 or bfloat16."""
    name = dtype_name(x.dtype)
    return name in FLOATS or name in INTEGERS or name == "bool"


def moved(x: Any, cx: Context) -> Array:
    """Return a NumPy array as one of the logits' library, on their device.

    No value changes, except that float64 becomes float32 on a device without float64, where all
    arithmetic is in float32.
    """
    if cx.library == "torch" and compiling():
        return torch_module().as_tensor(x, device=cx.device)
    values = np.asarray(x, order="C")
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    name = dtype_name(values.dtype)
    if name == "float64" and dtype_name(cx.sum_dtype) != name:
        with np.errstate(over="ignore"):
            values = values.astype(np.float32)
    elif name in ("int64", "uint64") and dtype_name(cx.label_dtype) == "int32":
        values = narrowed(values, None)[0]
    elif FLOATS.get(name) == 16 and name not in HALVES.get(cx.library, ()):
        values = values.astype(np.float32)  # which holds each of its values
    return cx.from_host(values)


def fitted(targets: Any, ignore: Any, cx: Context) -> tuple[Any, Any]:
    """Return labels that fit the label dtype, and the ignored label among them.

    Without its 64-bit switch JAX would silently take 2^32 + 1 for 1.
    """
    if cx.library == "numpy" or dtype_name(cx.label_dtype) != "int32" or not is_host(targets):
        return targets, ignore
    if dtype_name(targets.dtype) not in ("int64", "uint64") or isinstance(ignore, bool):
        return targets, ignore
    return narrowed(np.asarray(targets), ignore)


def narrowed(labels: HostArray, ignore: Any) -> tuple[HostArray, Any]:
    """Return 64-bit labels in 32 bits, and the ignored label.

    A label that does not fit becomes an invalid one, or the ignored one if it was ignored.
    """
    least, most = INTEGERS["int32"]
    inside = (labels >= least) & (labels <= most)
    if inside.all():
        return labels.astype(np.int32), ignore
    invalid = -2 if ignore == -1 else -1
    out = np.where(inside, labels, 0).astype(np.int32)
    out[~inside] = invalid
    if isinstance(ignore, (int, np.integer)) and not least <= ignore <= most:
        out[labels == ignore] = least  # a valid label is never so low
        ignore = least
    return out, ignore
