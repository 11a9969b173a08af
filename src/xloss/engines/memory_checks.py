"""What a compiled engine checks before it takes the address of any array.

A kernel checks no bounds. With one label fewer than there are rows, or one byte where it expects
eight, it reads or writes beyond the array. So the engine itself checks the library, device, shape
and dtype of every array against the logits, whatever its caller has checked before.
"""

from __future__ import annotations

from collections.abc import Collection
from math import prod
from typing import Any

from .._arrays.context import Context
from .._arrays.inspect import (
    FLOATS,
    INTEGERS,
    Array,
    device,
    dtype_name,
    library,
    namespace,
    torch_module,
)
from ..core.call import LossCall
from ..core.options import Cotangent, Saved
from . import gpu_arrays

BOOLS = ("bool", "bool_")
NUMBERS = {**FLOATS, **INTEGERS}


def fits(
    name: str, a: Any, shape: tuple[int, ...], dtypes: Collection[str], cx: Context, at: str = ""
) -> None:
    """Raise unless an array has the shape, one of the dtypes, and the logits' library and device.

    `at` says in the error where the array was found, if not in the call itself: "in a chunk, ".
    """
    if namespace(a) is not cx.xp:
        found = namespace(a)
        came = type(a).__name__ if found is None else f"one of {library(found)}"
        raise TypeError(f"{name}: {at}expected an array of {cx.library}, got {came}")
    if a.shape != shape:
        raise ValueError(f"{name}: {at}expected shape {shape}, got {tuple(a.shape)}")
    if dtype_name(a.dtype) not in dtypes:
        raise TypeError(f"{name}: {at}expected {_listed(dtypes)}, got {dtype_name(a.dtype)}")
    if cx.library == "numpy":
        return
    if device(a) != cx.device:
        raise ValueError(f"{name}: {at}on device {device(a)}, but the logits are on {cx.device}")
    check_storage(name, a, cx, at)
    on_gpu = not cx.on_host and cx.library in ("torch", "cupy")
    if on_gpu and gpu_arrays.of(cx.library).address(a) % a.dtype.itemsize:
        raise ValueError(f"{name}: {at}its memory is not aligned to its dtype; pass a copy")


def check_numbers(cx: Context, **numbers: Any) -> None:
    """Check what may be a number, a 0-d array or None."""
    for name, a in numbers.items():
        if a is not None and not isinstance(a, (int, float)):
            fits(name, a, (), NUMBERS, cx)


def _listed(dtypes: Collection[str]) -> str:
    """Name dtypes for an error message."""
    names = [name for name in dtypes if name != "bool_"]
    return names[0] if len(names) == 1 else f"one of {', '.join(names)}"


def check_storage(name: str, x: Array, cx: Context, at: str = "") -> None:
    """Raise for a tensor whose storage is smaller than its shape needs.

    NumPy and the kernels would read whatever lies behind the storage.
    """
    if cx.library == "torch" and is_freed(x):
        raise ValueError(
            f"{name}: {at}the tensor's storage holds fewer elements than its shape, as fully "
            "sharded data parallelism leaves a parameter it has freed; gather it first"
        )


def is_freed(x: Array) -> bool:
    """Return whether an array is a tensor whose storage is smaller than its shape needs."""
    torch = torch_module()
    if torch is None:
        return False
    if type(x) is not torch.Tensor and type(x) is not torch.nn.Parameter:
        return False
    if x.layout is not torch.strided or torch._C._functorch.is_functorch_wrapped_tensor(x):
        return False
    # Of nearly every tensor the storage has its elements; one that was freed is empty.
    if x.numel() == 0 or gpu_arrays.storage_holds(x, x.numel() * x.itemsize):
        return False
    last = sum((n - 1) * step for n, step in zip(x.shape, x.stride(), strict=True))
    return not gpu_arrays.storage_holds(x, (last + 1) * x.itemsize)


def check_operands(call: LossCall) -> tuple[int, ...]:
    """Check all arrays of a call along a class axis; return the shape of the rows."""
    o, cx, classes = call.operands, call.cx, call.classes
    shape = tuple(o.x.shape)
    if not shape or shape[-1] != classes:
        raise ValueError(f"logits: expected {classes} classes along the last axis, got {shape}")
    rows = shape[:-1]
    fits("logits", o.x, shape, FLOATS, cx)
    if o.targets is not None:
        labels = call.options.indexed
        fits("targets", o.targets, rows if labels else shape, INTEGERS if labels else FLOATS, cx)
    if o.class_weight is not None:
        fits("class weight", o.class_weight, (classes,), NUMBERS, cx)
    if o.sample_weight is not None:
        fits("sample_weight", o.sample_weight, rows, NUMBERS, cx)
    if o.where is not None:
        fits("where", o.where, rows, BOOLS, cx)
    return rows


def check_gradient(cotangent: Cotangent, saved: Saved, rows: tuple[int, ...], cx: Context) -> None:
    """Check what a gradient starts from: the cotangent and the statistics of an earlier call."""
    up = cotangent.row_loss
    if not isinstance(up, float):
        fits("cotangent", up, rows if getattr(up, "ndim", 0) else (), NUMBERS, cx)
    if cotangent.any_row_counts is not None:
        fits("cotangent", cotangent.any_row_counts, (), BOOLS, cx)
    if saved is not None:
        for a, dtype in zip(saved, (cx.compute_dtype, cx.sum_dtype), strict=True):
            fits("saved statistics", a, rows, (dtype_name(dtype),), cx)


def check_again(
    cotangent: Array, saved: Array, grad: Array | None, x: Array, rows: tuple[int, ...], cx: Context
) -> None:
    """Check what a backward call starts from where the loss's call computed the gradient too.

    saved: (2 + 2·rows,), the sums and the rows' statistics; grad: like x, the logits.
    """
    check_gradient(Cotangent(cotangent), None, rows, cx)
    fits("saved statistics", saved, (2 + 2 * prod(rows),), (dtype_name(cx.sum_dtype),), cx)
    if grad is not None:
        fits("saved gradient", grad, tuple(x.shape), (dtype_name(x.dtype),), cx)
