"""Which context a call has: its library's operations, its dtypes, and the memory it may write."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from .inspect import (
    Array,
    Namespace,
    compiling,
    device,
    dtype_name,
    in_torch_func,
    is_traced,
    library,
    on_host,
    torch_module,
)
from .ops import CONTEXTS
from .standard import Context

__all__ = ["Context", "context", "functional", "read"]


def _has_64_bits(xp: Namespace, lib: str, dev: Any) -> tuple[bool, bool]:
    """Tell whether float64 and int64 exist on this device."""
    if lib in ("numpy", "dask", "tensorflow"):
        return True, True
    if lib == "torch":
        return dev.type != "mps", True
    if lib == "jax":  # a setting that may change at any time
        switched = bool(sys.modules["jax"].config.jax_enable_x64)
        return switched, switched
    kinds = xp.__array_namespace_info__().dtypes(device=dev)
    return "float64" in kinds, "int64" in kinds


# Contexts of concrete arrays, each made once: in a call on a small array every microsecond shows.
_contexts: dict[tuple[Any, ...], Context] = {}


def context(x: Array, xp: Namespace) -> Context:
    """Return the context of a call on these logits."""
    lib = library(xp)
    dev = device(x)
    double = dtype_name(x.dtype) == "float64"
    if lib == "torch" and not compiling() and torch_module()._C._get_tracing_state() is not None:
        raise RuntimeError(
            "torch.jit.trace would keep this call's sizes and values as constants; "
            "take torch.export or torch.compile"
        )
    if lib in ("jax", "dask") or is_traced(x, lib) or (lib == "torch" and in_torch_func()):
        return _new_context(xp, lib, dev, double, eager=False)
    # CuPy's devices have an equality and no hash.
    key = (xp, dev if type(dev).__hash__ is not None else str(dev), double)
    found = _contexts.get(key)
    if found is None:
        found = _contexts[key] = _new_context(xp, lib, dev, double, eager=True)
    return found


def read(cx: Context, clean: bool = False) -> Context:
    """Return the context in which the targets' values may be read.

    `clean`: they were, and every label is in range and none is ignored.
    """
    return cx._replace(values_readable=True, labels_verified=clean)


def _new_context(xp: Namespace, lib: str, dev: Any, double: bool, eager: bool) -> Context:
    def dtype(name: str) -> Any:
        # numpy.float32 and jax.numpy.float32 are scalar types, which compare unequal to a dtype.
        return np.dtype(name) if lib in ("numpy", "jax", "dask", "cupy") else getattr(xp, name)

    float64, int64 = _has_64_bits(xp, lib, dev)
    compute_dtype = dtype("float64" if double else "float32")
    return CONTEXTS.get(lib, Context)(
        xp=xp,
        library=lib,
        device=dev,
        compute_dtype=compute_dtype,
        sum_dtype=dtype("float64") if float64 else compute_dtype,
        label_dtype=dtype("int64" if int64 else "int32"),
        inplace_ok=eager and lib != "tensorflow",  # its tensors cannot be written to
        on_host=eager and on_host(lib, dev),
    )


def functional(cx: Context) -> Context:
    """Return the context in which nothing is written in place: for code an autodiff records."""
    return cx._replace(inplace_ok=False, on_host=False)
