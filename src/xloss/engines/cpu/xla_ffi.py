"""The host engine as a target of XLA's foreign function interface, for programs of JAX on the CPU.

A target's name says everything that a compiled program may keep of it; addresses stand only in a
table of this process.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from time import perf_counter
from typing import Any

import numpy as np

from . import fork_safety, thread_pool
from .kernels import xla_layout as at

__all__ = ["TARGET", "options", "unavailable", "warm"]

TARGET = "xloss_rows_1"  # the number changes with the operands or the options


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

    try:
        jax.local_devices(backend="cpu")  # until it is there a refusal would be its failure
    except RuntimeError as error:
        return f"JAX has no CPU here: {error}"
    table = xla_call.TABLE
    handler, table[at.TASK] = _entry(xla_handler.xla_handler), _entry(xla_handler.xla_task)
    table[at.SEEN_MAJOR : at.SEEN_MINOR + 1] = -1
    try:
        capsule: Any = jax.ffi.pycapsule
        jax.ffi.register_ffi_target(TARGET, capsule(handler), platform="cpu")
        jax.ffi.register_ffi_target_as_batch_partitionable(TARGET)
    except Exception as error:  # XLA's own refusal of a version
        return f"XLA does not take the handler: {error}"
    major, minor = table[at.SEEN_MAJOR : at.SEEN_MINOR + 1].tolist()
    if major == at.MAJOR and minor >= at.MINOR:
        return None
    return (
        f"the handler reads version {at.MAJOR}.{at.MINOR} of XLA's foreign function "
        f"interface or a later {at.MAJOR}.x, and this XLA has {major}.{minor}"
    )


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


def options(form: Any, dtype: str, by_rows: bool) -> Any:
    """Return a call's options as the handler reads them, once the kernel is there to be called."""
    from .kernels import xla_call

    _ready(dtype, by_rows)
    xla_call.TABLE[at.THREADS] = thread_pool.threads()
    options, outputs = form.options, form.outputs
    made = np.zeros(at.OPTION_COUNT, np.int64)
    made[at.KIND] = at.DTYPES[dtype]
    made[at.BY_ROWS] = by_rows
    made[at.GIVEN] = sum(bool(there) << i for i, there in enumerate(form[1:7]))
    made[at.WANTED] = outputs.rows | outputs.stats << 1 | outputs.grad << 2
    made[at.INDEXED] = options.indexed
    made[at.IGNORES] = options.ignore_index is not None
    made[at.IGNORED] = options.ignore_index or 0
    numbers = made.view(np.float64)
    numbers[at.EPS] = options.label_smoothing
    numbers[at.Z_LOSS] = options.z_loss
    numbers[at.CAP] = options.softcap or 0.0
    return made
