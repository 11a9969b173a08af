"""The host engine as a target of XLA's foreign function interface, for programs of JAX on the CPU.

A target's name says everything that a compiled program may keep of it; addresses stand only in a
table of this process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from math import prod
from time import perf_counter
from typing import Any

import numpy as np

from . import fork_safety, thread_pool
from .kernels import xla_layout as at

__all__ = ["TARGET", "options", "unavailable", "warm"]

TARGET = "xloss_rows_2"  # the number changes with the operands or the options


@cache
def unavailable() -> str | None:
    """Say why no XLA program of this process can call the engine, or None; registers the target."""
    from . import engine as cpu

    reason = cpu.unavailable()
    if reason is not None:
        return reason
    with fork_safety.importing:
        try:
            from .kernels import xla_call, xla_handler
        except Exception as error:  # a Numba or a C library that does otherwise than taken here
            return f"the handler of XLA's calls cannot be compiled: {error}"
    import jax

    handler, xla_call.TABLE[at.TASK] = (
        _entry(function) for function in (xla_handler.xla_handler, xla_handler.xla_task)
    )
    try:
        jax.local_devices(backend="cpu")  # until it is there a refusal would be its failure
        capsule: Any = jax.ffi.pycapsule
        jax.ffi.register_ffi_target(TARGET, capsule(handler), platform="cpu")
        jax.ffi.register_ffi_target_as_batch_partitionable(TARGET)
    except Exception as error:  # no CPU, or a version of its interface that the handler cannot read
        return f"XLA does not take the handler: {error}"
    return None


def _entry(function: Any, signature: Any = None) -> int:
    """Compile a kernel, or find it on disk; return where its code begins.

    Without a signature it is one of the functions of an address that XLA calls, as C does.
    """
    from numba.core.types import int64

    kinds = signature or (int64,)
    function.compile(kinds)
    made = function.overloads[kinds]
    name = made.fndesc.llvm_func_name if signature else made.fndesc.llvm_cfunc_wrapper_name
    return int(made.library.get_pointer_to_function(name))


def warm() -> Iterator[tuple[str, float]]:
    """Compile what calls of XLA's need beside the kernels, where JAX is installed."""
    if find_spec("jax") is None:
        return
    from .kernels import xla_handler

    for function in (xla_handler.xla_handler, xla_handler.xla_task):
        start = perf_counter()
        _entry(function)
        yield function.__name__, perf_counter() - start


@cache
def _ready(dtype: str, by_rows: bool) -> None:
    """Compile the kernel that a program is about to call, and enter it into the table."""
    from numba import typeof

    from . import engine as cpu
    from .arguments import KERNELS
    from .kernels import xla_call

    kernels, name = cpu.load_numba(), "rows" if by_rows else "columns"
    signature = typeof(kernels.like[dtype]), typeof(KERNELS[name])
    place = at.KERNELS + 2 * list(at.DTYPES).index(dtype) + by_rows
    xla_call.TABLE[place] = _entry(getattr(kernels, name), signature)


def options(form: Any, x: Any, by_rows: bool, fields: Sequence[str], kinds: Sequence[Any]) -> Any:
    """Return a call's options as the handler reads them, once the kernel is there to be called.

    fields: of `xla_layout.FIELDS`, of each argument and each result; kinds: their shapes and
    dtypes.
    """
    from .kernels import xla_call

    dtype, o, rows = x.dtype.name, form.options, x.ndim - 1
    _ready(dtype, by_rows)
    xla_call.TABLE[at.THREADS] = thread_pool.threads()
    numbers = np.array([o.label_smoothing, o.z_loss, o.softcap or 0.0])
    ignores, ignored = o.ignore_index is not None, o.ignore_index
    made = [at.DTYPES[dtype], by_rows, form.saved, ignores, ignored if ignores else -1]
    made += numbers.view(np.int64).tolist()
    for field, kind in zip(fields, kinds, strict=True):
        has_rows = field != "class_weight"
        each = prod(kind.shape[rows * has_rows :])
        step = each * kind.dtype.itemsize * has_rows
        made += [at.FIELDS.index(field), each, step, at.KINDS[kind.dtype.name]]
    return np.array(made, np.int64)
