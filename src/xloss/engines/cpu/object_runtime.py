"""Kernels that Numba has compiled, written to disk as machine code that needs no Numba to run.

A kernel calls a few functions of Numba's runtime, for its buffers and for its errors. The file
holds their counterparts beside it, made here: memory is the C library's, and an error is a status,
for the only one that a kernel meets is that there is no memory.
"""

from __future__ import annotations

import ctypes
import pickle
import sys
from itertools import chain
from pathlib import Path
from typing import Any

from llvmlite import binding, ir

from .. import disk_cache
from . import kept_objects
from .arguments import KERNELS

WORD = ir.IntType(64)
COUNTED, DATA, HEADER = 0, 24, 64  # bytes: a counted buffer's count, its data's address, its header
# Functions that only errors and Python's own calls of a kernel reach: they do nothing.
UNUSED = (
    "numba_do_raise",
    "numba_gil_ensure",
    "numba_gil_release",
    "numba_runtime_build_excinfo_struct",
    "numba_unpickle",
)


def keep(name: str, signature: Any, compiled: Any, folder: Path) -> None:
    """Write a kernel's machine code beside Numba's own file, where it can be loaded without."""
    if sys.platform != "linux" or name not in KERNELS or not kept_objects.usable():
        return
    module = compiled.library._final_module
    runtime = _runtime()
    if not _known_layout() or _missing(module, {f.name for f in runtime.functions}):
        return
    made = bytes(compiled.library._get_compiled_object())
    path = kept_objects.path(folder, name, str(signature[0]))
    symbol = compiled.fndesc.llvm_func_name
    disk_cache.write(path, pickle.dumps((symbol, _object(runtime), made)))


def _known_layout() -> bool:
    """Tell whether this Numba finds a buffer's data where the runtime here puts it."""
    from numba.core.runtime import nrtdynmod

    kinds = [str(kind) for kind in nrtdynmod._meminfo_struct_type.elements]
    return len(kinds) == 5 and kinds[0] == kinds[4] == "i64" and len(set(kinds[1:4])) == 1


def _missing(module: Any, given: set[str]) -> set[str]:
    """Return what a kernel refers to and a process without Numba does not have.

    A name that is not found when code is loaded ends the process.
    """
    needed = {
        f.name
        for f in chain(module.functions, module.global_variables)
        if f.is_declaration and not f.name.startswith("llvm.")
    }
    process = ctypes.CDLL(None)
    unknown = {name for name in needed - given if not hasattr(process, name)}
    # Numba empties the module of a kernel that it has from disk.
    return unknown if needed else {"a module"}


def _object(module: ir.Module) -> bytes:
    machine = kept_objects.machine()
    parsed = binding.parse_assembly(str(module))
    parsed.verify()
    made: bytes = machine.emit_object(parsed)
    return made


def _runtime() -> Any:
    """Return the functions of Numba's runtime that kernels call."""
    module = ir.Module("xloss_runtime")
    allocate = ir.Function(module, ir.FunctionType(WORD, (WORD,)), "malloc")
    free = ir.Function(module, ir.FunctionType(ir.VoidType(), (WORD,)), "free")

    def function(name: str, arguments: int, result: Any = WORD) -> tuple[Any, Any]:
        made = ir.Function(module, ir.FunctionType(result, (WORD,) * arguments), name)
        return ir.IRBuilder(made.append_basic_block()), made.args

    def counted(builder: Any, size: Any, align: Any) -> None:
        """Allocate a header and, aligned, the data behind it; return 0 where there is no memory."""
        room = builder.add(size, builder.add(align, WORD(HEADER)))
        address = builder.call(allocate, (room,))
        with builder.if_then(builder.icmp_unsigned("==", address, WORD(0))):
            builder.ret(WORD(0))
        end = builder.add(address, builder.add(align, WORD(HEADER - 1)))
        data = builder.sub(end, builder.urem(end, align))
        for offset, value in ((COUNTED, WORD(1)), (8, WORD(0)), (16, WORD(0)), (DATA, data)):
            place = builder.inttoptr(builder.add(address, WORD(offset)), WORD.as_pointer())
            builder.store(value, place)
        builder.ret(address)

    builder, (size, align) = function("NRT_MemInfo_alloc_aligned", 2)
    # The alignment is an unsigned int: what stands above its 32 bits is anything.
    counted(builder, size, builder.and_(align, WORD(2**32 - 1)))
    builder, (size,) = function("NRT_MemInfo_alloc", 1)
    counted(builder, size, WORD(32))
    builder, (size,) = function("NRT_Allocate", 1)
    builder.ret(builder.call(allocate, (size,)))
    for name in ("NRT_Free", "NRT_MemInfo_call_dtor"):
        builder, (address,) = function(name, 1, ir.VoidType())
        builder.call(free, (address,))
        builder.ret_void()
    for name in UNUSED:
        builder, _ = function(name, 0)
        builder.ret(WORD(0))
    return module
