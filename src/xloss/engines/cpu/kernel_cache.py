"""Kernels: functions compiled by Numba when first called, and kept on disk for the next process.

Numba's own disk cache is not used. It notices an edit only in the file of the cached function, not
in the helpers that it calls, and two processes that write two signatures at once can leave the name
of one with the code of the other. Here one file holds one kernel for one signature, in a folder
that is named after all sources, and it begins with the hash of its contents. Whatever goes wrong
with the cache costs a compilation and nothing else.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Collection
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite.binding import ffi
from numba.core.caching import NullCache
from numba.core.compiler_lock import global_compiler_lock

from .. import disk_cache
from ..compile_notice import compiling
from . import kept_objects
from .fork_safety import wait_for
from .kernel_folder import SUFFIX, folder_of, stamp

__all__ = ["cache_folder", "inline", "kept_in", "kernel"]

# Numba's settings that change the code.
SETTINGS = ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "ENABLE_AVX", "DEBUGINFO_DEFAULT")

# The compiler's locks, in the order in which Numba takes them.
wait_for(global_compiler_lock)
wait_for(getattr(getattr(ffi, "lib", None), "_lock", None))


def kernel(function: Any) -> Any:
    """Compile a function for every signature it is called with, releasing the GIL; keep it on disk.

    It gives notice of a compilation that takes long; loading from disk is no compilation.
    """
    compiled = _compiler(function, ())
    if hasattr(compiled, "_cache"):  # Numba may have been told to compile nothing
        compiled._cache = _Cache(compiled)
        compile_ = compiled._compiler.compile

        def announced(*arguments: Any) -> Any:
            with compiling(f"the CPU engine's kernel {function.__name__!r}"):
                return compile_(*arguments)

        compiled._compiler.compile = announced
    return compiled


def inline(*, fastmath: Collection[str] = ()) -> Callable[[Any], Any]:
    """Compile a function that kernels call; on disk it is a part of each of them."""
    # Inlined always, which leaves no symbol of it in the kernel. Numba compiles the function by
    # itself too, and a process that compiles the kernel may call that copy where a process that
    # loads it does not. A sum that LLVM may reassociate then differs in its last bits.
    return lambda function: _compiler(function, fastmath, forceinline=True)


def _compiler(function: Any, fastmath: Collection[str], **options: bool) -> Any:
    return numba.njit(
        nogil=True,
        error_model="numpy",
        boundscheck=False,
        fastmath=set(fastmath) or False,
        **options,
    )(function)


def cache_folder() -> Path | None:
    """Return the folder of this version's kernels; None where there is no place for it."""
    return folder_of(_STAMP)


def kept_in() -> str | None:
    """Return the folder of this version's kernels, or None where it holds none."""
    folder = cache_folder()
    with suppress(OSError):
        if folder is not None and any(folder.glob(f"*{SUFFIX}")):
            return str(folder)
    return None


# Taken when this is imported, as the kernels are, and not when the first is compiled: what is
# compiled is what was imported, whatever has been written to the files since.
_STAMP = stamp()


def _has_blas() -> None:
    """Look for SciPy's linear algebra as Numba does, without loading it."""
    if find_spec("scipy") is None:
        raise ImportError("scipy is required for linear algebra")


def _import_late_modules() -> None:
    """Import what Numba imports when it is first used, outside its lock.

    Imported now it is under `fork_safety.importing`, which a fork waits for. Numba would load
    SciPy's linear algebra only to see whether it is there. No kernel uses it, and SciPy's OpenBLAS
    allocates memory for all its threads when it is loaded: under a memory limit of 150 MB that
    never ends. Code that uses it still loads it when compiled.
    """
    with suppress(ImportError, AttributeError):  # a version of Numba without these names
        from numba.np import linalg

        own, linalg.ensure_blas = linalg.ensure_blas, _has_blas
        try:
            from numba.core.registry import cpu_target

            numba.typeof(np.empty(1))
            cpu_target.typing_context.refresh()
            cpu_target.target_context.refresh()
        finally:
            linalg.ensure_blas = own


def _allow_deleted_current_folder() -> None:
    """Let Numba compile where the current folder has been deleted.

    Its errors, and it raises and catches some in every compilation, name source files relative to
    the current folder, which fails where there is none.
    """
    with suppress(ImportError, AttributeError):
        from numba.core.ir import Loc

        own = Loc._get_path

        def path(self: Any) -> Any:
            try:
                return own(self)
            except OSError:
                return self.filename

        Loc._get_path = path


_import_late_modules()
_allow_deleted_current_folder()


class _Cache(NullCache):  # type: ignore[misc]
    """The cache of one function's signatures, with the methods that Numba calls."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled

    def load_overload(self, sig: Any, target: Any) -> Any:
        """Return the compiled signature from disk, or None."""
        try:
            from numba.core.compiler import CompileResult

            target.refresh()
            path = self._path(sig, target.codegen())
            payload = None if path is None else disk_cache.read(path)
            return payload and CompileResult._rebuild(target, *pickle.loads(payload))
        except Exception:
            return None

    def save_overload(self, sig: Any, compiled: Any) -> None:
        """Write a compiled signature to disk."""
        try:
            from numba.core.serialize import dumps

            path = self._path(sig, compiled.codegen)
            if path is None or compiled.lifted or compiled.library.has_dynamic_globals:
                return
            disk_cache.write(path, dumps(compiled._reduce()))
            kept_objects.keep(self._compiled.py_func.__name__, sig, compiled, path.parent)
        except Exception:
            return

    def _path(self, sig: Any, codegen: Any) -> Path | None:
        folder, function = cache_folder(), self._compiled.py_func
        if folder is None:
            return None
        settings = [getattr(numba.config, name, None) for name in SETTINGS]
        key = repr((function.__module__, str(sig), codegen.magic_tuple(), settings))
        name = f"{function.__name__}-{hashlib.sha256(key.encode()).hexdigest()[:40]}"
        return folder / f"{name}{SUFFIX}"
