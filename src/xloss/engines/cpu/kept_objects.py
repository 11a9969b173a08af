"""Kernels from disk as machine code, loaded and called without Numba.

Importing Numba and rebuilding its records of a kernel takes nearly all of a process's first call.
Where a file for this processor is there, LLVM alone loads it; where it is not, Numba compiles.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import pickle
import sys
from functools import cache
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from importlib.util import find_spec, module_from_spec
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from .. import disk_cache
from . import fork_safety
from .arguments import KERNELS

LIKE = {
    "float32": np.float32(0),
    "float64": np.float64(0),
    "bfloat16": np.uint16(0),
    "float16": np.int16(0),
}
_KINDS: dict[type, Any] = {int: ctypes.c_int64, float: ctypes.c_double, bool: ctypes.c_uint8}
# Numba's modules of C functions: folder, name, and with what their names begin in kernels.
C_MODULES = (("", "_helperlib", "numba_"), ("core/runtime", "_nrt_python", "NRT_"))
_held: list[Any] = []  # code lives as long as the engine that loaded it
# Where a kernel writes what it returns and what it raises, which is not read.
_unread = (ctypes.c_int64 * 2)()


def usable() -> bool:
    """Tell whether Numba's own settings, which may change or forbid its code, are as they are."""
    return not any(name.startswith("NUMBA_") for name in os.environ)


def load(folder: Path | None, compile_kernels: Any) -> Any:
    """Return the kernels, or None where none is kept; `compile_kernels` returns Numba's."""
    if folder is None or sys.platform != "linux" or not usable():
        return None
    try:
        if not any(folder.glob("*.object")):
            return None
        with fork_safety.importing:
            _target()
    except Exception:  # whatever is wrong here, Numba still compiles
        return None
    return SimpleNamespace(
        like=LIKE, **{name: Kernel(name, folder, compile_kernels) for name in KERNELS}
    )


class Kernel:
    """A kernel, called as Numba's own is: by a number like the logits' and the call's numbers."""

    def __init__(self, name: str, folder: Path, compile_kernels: Any) -> None:
        self.__name__, self.folder, self.compile_kernels = name, folder, compile_kernels
        self.numbers = [_KINDS[type(value)] for value in KERNELS[name]]
        self.loaded: dict[type, Any] = {}

    def __call__(self, like: Any, *numbers: Any) -> None:
        """Compute; see `arguments`."""
        function = self.loaded.get(type(like))
        if function is None:
            with fork_safety.importing:
                function = self.loaded[type(like)] = self._found(like)
        function(like, *numbers)

    def _found(self, like: Any) -> Any:
        """Load the kernel of a dtype, or have Numba compile it."""
        try:
            payload = disk_cache.read(path(self.folder, self.__name__, like.dtype.name))
            code = None if payload is None else _loaded(payload, like.dtype, self.numbers)
        except Exception:
            code = None
        if code is None:
            return getattr(self.compile_kernels(), self.__name__)

        room = ctypes.addressof(_unread)

        def call(like: Any, *numbers: Any) -> None:
            if code(room, room + 8, 0, *numbers):
                raise MemoryError(f"no memory for the buffers of the kernel {self.__name__!r}")

        return call


def _loaded(payload: bytes, dtype: Any, numbers: list[Any]) -> Any:
    """Load a kernel's machine code; return it as a C function that releases the GIL."""
    from llvmlite import binding

    symbol, code = pickle.loads(payload)
    target = binding.Target.from_default_triple()
    machine = target.create_target_machine(codemodel="jitdefault", jit=True)
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), machine)
    engine.add_object_file(binding.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _held.append(engine)
    like = np.ctypeslib.as_ctypes_type(dtype)
    made = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int64, ctypes.c_int64, like, *numbers)
    return made(engine.get_function_address(symbol))


def keep(name: str, signature: Any, compiled: Any, folder: Path) -> None:
    """Write a kernel's machine code beside Numba's own file, where it can be loaded without."""
    if sys.platform != "linux" or name not in KERNELS or not usable():
        return
    if _missing(compiled.library._final_module):
        return
    code = bytes(compiled.library._get_compiled_object())
    payload = pickle.dumps((compiled.fndesc.llvm_func_name, code))
    disk_cache.write(path(folder, name, str(signature[0])), payload)


def _missing(module: Any) -> set[str]:
    """Return what a kernel refers to and a process without Numba does not have.

    A name that is not found when code is loaded ends the process.
    """
    needed = {
        f.name
        for f in chain(module.functions, module.global_variables)
        if f.is_declaration and not f.name.startswith("llvm.")
    }
    process, given = ctypes.CDLL(None), _c_functions()
    unknown = {name for name in needed if name not in given and not hasattr(process, name)}
    # Numba empties the module of a kernel that it has from disk.
    return unknown if needed else {"a module"}


def _c_functions() -> dict[str, int]:
    """Return the addresses of the C functions that Numba's kernels call, by their names there.

    Their two modules are loaded without Numba's Python code, which takes a hundred times as long.
    """
    found: dict[str, int] = {}
    numba = find_spec("numba")
    package = Path("" if numba is None else numba.origin or "").parent
    for folder, name, prefix in C_MODULES:
        (file,) = (package / folder).glob(f"{name}.*so")
        # Under its whole name: when Numba imports it later, it is the same module.
        whole = ".".join(("numba", *Path(folder).parts, name))
        loader = ExtensionFileLoader(whole, str(file))
        module = module_from_spec(ModuleSpec(whole, loader, origin=str(file)))
        loader.exec_module(module)
        found |= {prefix + helper: address for helper, address in module.c_helpers.items()}
    return found


def path(folder: Path, name: str, kind: str) -> Path:
    """Return where a kernel lies, for this processor alone; kind: the dtype that it is read as."""
    return folder / f"{name}-{kind}-{_processor()}.object"


@cache
def _target() -> None:
    from llvmlite import binding
    from llvmlite.binding import ffi

    fork_safety.wait_for(getattr(getattr(ffi, "lib", None), "_lock", None))
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    for name, address in _c_functions().items():
        binding.add_symbol(name, address)


@cache
def _processor() -> str:
    from llvmlite import binding

    features = binding.get_host_cpu_features().flatten()
    described = (binding.get_default_triple(), binding.get_host_cpu_name(), features)
    return hashlib.sha256(repr(described).encode()).hexdigest()[:16]
