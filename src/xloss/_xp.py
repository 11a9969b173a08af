"""What may be done with an array: contexts, gathers, sums, and each library's own ways to them."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ._inspect import (
    FLOATS,
    INTEGERS,
    Array,
    Namespace,
    compiling,
    device,
    dtype_name,
    is_integer,
    is_odd,
    is_real_float,
    library,
    namespace,
    torch_module,
)

# What an array is comes from `_inspect`; all else takes it, and what is done with one, from here.
__all__ = [
    "FLOATS",
    "INTEGERS",
    "Array",
    "Namespace",
    "compiling",
    "device",
    "dtype_name",
    "is_integer",
    "is_odd",
    "is_real_float",
    "library",
    "namespace",
    "torch_module",
]
# Integer-array indexing, x[i, j], reads and writes a handful of entries without a pass over x.
_FANCY = {"numpy", "cupy", "torch"}


class Context(NamedTuple):
    """What the arithmetic may use in one call."""

    xp: Namespace
    library: str  # "numpy", "torch", "jax", "cupy", "dask", "array_api_strict", ...
    device: Any  # None where the library traces
    acc: Any  # dtype of the arithmetic and the loss: float32 or float64
    wide: Any  # dtype of the sums: float64 where the device has it, else acc
    index: Any  # dtype of safe labels
    eager: bool  # blocks may be written in place into arrays of our own
    host: bool  # the logits' values may steer Python at no cost
    readable: bool = False  # the targets' values may be read
    clean: bool = False  # they were: every label is in range and none is ignored


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
    if not cx.eager:
        return cx._replace(readable=True, clean=clean)
    key = (cx.xp, _known(cx.device), dtype_name(cx.acc) == "float64", True, clean)
    found = _contexts.get(key)
    if found is None:
        found = _contexts[key] = cx._replace(readable=True, clean=clean)
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
        acc=acc,
        wide=dtype("float64") if wide else acc,
        index=dtype("int64" if long else "int32"),
        eager=eager,
        host=eager and on_host(lib, dev),
    )


def on_host(lib: str, dev: Any) -> bool:
    """Tell whether values on this device may be read without a transfer."""
    if lib == "torch":
        return bool(dev.type == "cpu")
    return lib == "numpy" or (lib == "array_api_strict" and "CPU_DEVICE" in str(dev))


def is_traced(x: Array, lib: str) -> bool:
    """Tell whether the array stands for values that are not there to be read."""
    if lib in ("jax", "dask"):
        return True
    if lib != "torch":
        return False
    torch = torch_module()
    if torch.compiler.is_compiling() or x.device.type == "meta" or is_wrapper(x) or spread(x):
        return True
    # functorch wrappers are read by no public predicate but these; make_fx, and what exports by
    # it, records the operations on plain tensors, and would keep a value read as a constant.
    return bool(
        torch._C._functorch.is_functorch_wrapped_tensor(x)
        or torch._is_functional_tensor(x)
        or (
            torch._C._len_torch_dispatch_stack()
            and torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.PROXY)
        )
    )


def is_wrapper(x: Array) -> bool:
    """Tell a tensor subclass that says itself what an operation on it is.

    Its values may stand anywhere: in tensors that it holds, on other ranks, nowhere.
    """
    plain: Any = torch_module().Tensor
    return type(x).__torch_dispatch__ is not plain.__torch_dispatch__


def has_memory(x: Array) -> bool:
    """Tell whether a tensor's values stand where it points, and nobody follows what is done.

    They do not in a wrapper, a sparse tensor, a negated view and the zeros that autograd makes.
    Inside a transformation of torch.func even a plain tensor is handed out wrapped.
    """
    torch = torch_module()
    plain = type(x) is torch.Tensor or type(x) is torch.nn.Parameter
    return bool(
        plain
        and x.layout is torch.strided
        and not x.is_neg()
        and not x._is_zerotensor()
        and not torch._C._len_torch_dispatch_stack()
        and torch._C._functorch.peek_interpreter_stack() is None
    )


def spread(x: Array) -> bool:
    """Tell whether a tensor is spread over ranks: PyTorch's DTensor."""
    return type(x).__name__ == "DTensor"


def gathered(x: Array) -> Array:
    """Return all of a tensor that is spread over ranks; anything else as it is."""
    return x.full_tensor() if spread(x) else x


def is_tracer(x: Array, lib: str) -> bool:
    """Tell whether no price buys the array's values: inside a transformation or a compiler."""
    if lib == "jax":
        return isinstance(x, sys.modules["jax"].core.Tracer)
    return lib == "torch" and is_traced(x, lib)


def readable(x: Array, xp: Namespace) -> bool:
    """Tell whether an array's values may be read at no cost: a concrete host array."""
    lib = library(xp)
    return lib == "numpy" or (on_host(lib, device(x)) and not is_traced(x, lib))


def quiet(cx: Context) -> AbstractContextManager[Any]:
    """Silence NumPy's floating-point warnings: inf - inf and log 0 are selected away."""
    if cx.library in ("numpy", "array_api_strict") or cx.library not in _SILENT:
        return np.errstate(all="ignore")
    return nullcontext()


_SILENT = {"torch", "jax", "cupy", "dask"}


def fill(cx: Context, x: Array, mask: Array, value: float) -> Array:
    """Put `value` where `mask`; in place where x is an array of our own and the library can."""
    if cx.eager and cx.library == "torch":
        return x.masked_fill_(mask, value)
    if cx.eager and cx.library == "numpy":
        np.copyto(x, value, where=mask)
        return x
    return cx.xp.where(mask, value, x)  # x[mask] = value is an option of the standard


def count_true(cx: Context, mask: Array, every: Array) -> Array:
    """Count along the last axis; `every` is one row value, NaN where a row may have none."""
    xp = cx.xp
    # A count along an axis costs as much as the exponential, a count of all nothing.
    if cx.host and int(xp.count_nonzero(mask)) == prod(every.shape):
        check = float(sum_all(cx, every))
        if check == check:
            return xp.ones(every.shape[:-1], dtype=cx.wide, device=cx.device)
    return sum_last(cx, xp.astype(mask, cx.acc))


def fuses_sums(cx: Context) -> bool:
    """Tell whether a compiler adds up terms without writing them, if they are arithmetic."""
    return cx.library == "jax"


def apart(cx: Context, *arrays: Array) -> tuple[Array, ...]:
    """Return the arrays as ones that a compiler takes for others: it computes twice, not keeps."""
    made: tuple[Array, ...] = sys.modules["jax"].lax.optimization_barrier(arrays)
    return made


# NumPy's sum and max spend a microsecond or two before they call these reductions.


def sum_last(cx: Context, x: Array) -> Array:
    """Sum along the last axis, wide."""
    if cx.library == "numpy":
        return np.add.reduce(x, axis=-1, dtype=cx.wide)
    return cx.xp.sum(x, axis=-1, dtype=cx.wide)


def sum_all(cx: Context, x: Array) -> Array:
    """Sum all elements, wide."""
    if cx.library == "numpy":
        return np.add.reduce(x, axis=None, dtype=cx.wide)
    return cx.xp.sum(x, dtype=cx.wide)


def max_last(cx: Context, x: Array) -> Array:
    """Return the maxima along the last axis, kept with length 1; a NaN wins."""
    if cx.library == "numpy":
        return np.maximum.reduce(x, axis=-1, keepdims=True)
    return cx.xp.max(x, axis=-1, keepdims=True)


def arange(cx: Context, n: int) -> Array:
    """Return 0..n-1 as safe-label dtype on the call's device."""
    return cx.xp.arange(n, dtype=cx.index, device=cx.device)


def gather(cx: Context, x: Array, labels: Array) -> Array:
    """Return x[..., labels], one entry a row; labels must be safe."""
    if cx.library in _FANCY and x.ndim == 2 and cx.eager:
        return x[arange(cx, x.shape[0]), labels]
    xp = cx.xp
    at = xp.expand_dims(labels, axis=-1)
    # torch's take_along_axis broadcasts, for which torch.compile fixes every size.
    found = xp.gather(x, -1, at) if cx.library == "torch" else xp.take_along_axis(x, at, axis=-1)
    return xp.squeeze(found, axis=-1)


def scatter(cx: Context, x: Array, labels: Array, values: Array) -> Array:
    """Put one value a row at x[..., labels]; in place where x is an array of our own."""
    values = cx.xp.astype(values, x.dtype, copy=False)
    if cx.library in _FANCY and x.ndim == 2 and cx.eager:
        x[arange(cx, x.shape[0]), labels] = values
        return x
    hot = arange(cx, x.shape[-1]) == cx.xp.expand_dims(labels, axis=-1)
    return cx.xp.where(hot, cx.xp.expand_dims(values, axis=-1), x)


def take(cx: Context, x: Array, labels: Array) -> Array:
    """Return x[labels] for a one-dimensional x; labels must be safe."""
    if cx.library in _FANCY and cx.eager:
        return x[labels]
    xp = cx.xp
    return xp.reshape(xp.take(x, xp.reshape(labels, (-1,)), axis=0), labels.shape)


def matmul_into(cx: Context, a: Array, b: Array, out: Array) -> None:
    """Put a @ b into an array of our own."""
    if cx.library == "numpy" and a.shape[1] > b.shape[1]:
        # A long sum for few rows takes OpenBLAS up to twice as long as its transpose.
        out[...] = np.matmul(b.T, a.T).T
    elif cx.library in ("numpy", "torch"):
        cx.xp.matmul(a, b, out=out)
    else:
        out[...] = cx.xp.matmul(a, b)


def matmul_add(cx: Context, total: Array, a: Array, b: Array, most: int) -> None:
    """Add a @ b to an array of our own; `most` rows at a time, where the product needs room."""
    if cx.library == "torch":
        total.addmm_(a, b)
        return
    room = np.empty((most, b.shape[1]), total.dtype) if cx.library == "numpy" else None
    for start in range(0, total.shape[0], most):
        part, rows = total[start : start + most, ...], a[start : start + most, ...]
        if room is None:
            part += cx.xp.matmul(rows, b)
        else:
            part += np.matmul(rows, b, out=room[: part.shape[0]])


def cast(cx: Context, x: Array, dtype: Any) -> Array:
    """Convert without a copy where nothing changes."""
    if x.dtype == dtype:
        return x
    if cx.library == "numpy":
        return x.astype(dtype, copy=False)
    return cx.xp.astype(x, dtype, copy=False)


def cast_into(cx: Context, x: Array, out: Array) -> None:
    """Convert into an array of our own: without another in between, where a library can."""
    out[...] = x if cx.library in ("numpy", "torch", "cupy") else cast(cx, x, out.dtype)


def c_order(cx: Context, x: Array) -> Array:
    """Copy to C order unless it is: the bits of NumPy's sums depend on memory order."""
    if cx.library == "torch":
        return x.contiguous() if cx.eager else x
    if not cx.eager:
        return x
    copy = getattr(cx.xp, "ascontiguousarray", None)
    if copy is not None:
        return copy(x)
    return cx.xp.reshape(cx.xp.reshape(x, (-1,)), x.shape)  # both are in C order


def plain(cx: Context, x: Array) -> Array:
    """Return a 0-d NumPy array as the scalar that NumPy's own functions return."""
    return x[()] if cx.library == "numpy" and x.ndim == 0 else x


def functional(cx: Context) -> Context:
    """Return the context in which nothing is written in place: for code an autodiff records."""
    return cx._replace(eager=False, host=False)
