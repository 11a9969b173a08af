"""What the arithmetic of one call may do: its dtypes, its device, and which memory it may write."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np

from .inspect import (
    Array,
    Namespace,
    compiling,
    device,
    dtype_name,
    is_traced,
    library,
    on_host,
    torch_module,
)


class Context(NamedTuple):
    """What the arithmetic may use in one call."""

    xp: Namespace
    library: str  # "numpy", "torch", "jax", "cupy", "dask", "array_api_strict", ...
    device: Any  # None where the library traces
    compute_dtype: Any  # dtype of the arithmetic and the loss: float32 or float64
    sum_dtype: Any  # dtype of the sums: float64 where the device has it, else acc
    label_dtype: Any  # dtype of safe labels
    inplace_ok: bool  # blocks may be written in place into arrays of our own
    on_host: bool  # the logits' values may steer Python at no cost
    values_readable: bool = False  # the targets' values may be read
    labels_verified: bool = False  # they were: every label is in range and none is ignored


_WIDE: dict[tuple[str, str], tuple[bool, bool]] = {}


def has_64_bits(xp: Namespace, lib: str, dev: Any) -> tuple[bool, bool]:
    """Tell whether float64 and int64 exist on this device."""
    if lib == "numpy" or lib == "dask":
        return True, True
    if lib == "torch":
        return dev.type != "mps", True
    if lib == "jax":  # may be switched at any time
        switched = bool(sys.modules["jax"].config.jax_enable_x64)
        return switched, switched
    key = (lib, _known(dev))
    if key not in _WIDE:
        kinds = xp.__array_namespace_info__().dtypes(device=dev)
        _WIDE[key] = "float64" in kinds, "int64" in kinds
    return _WIDE[key]


# Contexts of concrete arrays, made once: a call on a small array is all overhead.
_contexts: dict[tuple[Any, ...], Context] = {}


def context(x: Array, xp: Namespace) -> Context:
    """Say what the arithmetic may do with these logits."""
    lib = library(xp)
    dev = device(x)
    double = dtype_name(x.dtype) == "float64"
    if lib == "torch" and not compiling() and torch_module()._C._get_tracing_state() is not None:
        raise RuntimeError(
            "torch.jit.trace would keep this call's sizes and values as constants; "
            "take torch.export or torch.compile"
        )
    if lib in ("jax", "dask") or is_traced(x, lib):
        return _make(xp, lib, dev, double, eager=False)
    key = (xp, _known(dev), double, False, False)
    found = _contexts.get(key)
    if found is None:
        found = _contexts[key] = _make(xp, lib, dev, double, eager=True)
    return found


def _known(dev: Any) -> Any:
    """Return what a device is remembered by: CuPy's has an equality and no hash."""
    return dev if type(dev).__hash__ is not None else str(dev)


def read(cx: Context, clean: bool = False) -> Context:
    """Return the context in which the targets' values may be read, or were and are clean."""
    if not cx.inplace_ok:
        return cx._replace(values_readable=True, labels_verified=clean)
    key = (cx.xp, _known(cx.device), dtype_name(cx.compute_dtype) == "float64", True, clean)
    found = _contexts.get(key)
    if found is None:
        found = _contexts[key] = cx._replace(values_readable=True, labels_verified=clean)
    return found


def _make(xp: Namespace, lib: str, dev: Any, double: bool, eager: bool) -> Context:
    def dtype(name: str) -> Any:
        # numpy.float32 and jax.numpy.float32 are no dtypes.
        return np.dtype(name) if lib in ("numpy", "jax", "dask", "cupy") else getattr(xp, name)

    wide, long = has_64_bits(xp, lib, dev)
    acc = dtype("float64" if double else "float32")
    return Context(
        xp=xp,
        library=lib,
        device=dev,
        compute_dtype=acc,
        sum_dtype=dtype("float64") if wide else acc,
        label_dtype=dtype("int64" if long else "int32"),
        inplace_ok=eager,
        on_host=eager and on_host(lib, dev),
    )


def functional(cx: Context) -> Context:
    """Return the context in which nothing is written in place: for code an autodiff records."""
    return cx._replace(inplace_ok=False, on_host=False)
