"""Kernels: functions compiled by Numba when first called, and kept on disk for the next process.

Numba's own disk cache is not used. It notices an edit only in the file of the cached function, not
in the helpers that it calls, and two processes that write two signatures at once can leave the name
of one with the code of the other. Here one file holds one kernel for one signature, its name is the
hash of all that the code was made of, and it begins with the hash of its contents. Whatever goes
wrong with the cache costs a compilation and nothing else.
"""

from __future__ import annotations

import hashlib
import pickle
import shutil
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import llvmlite
import numba
import numpy as np
from llvmlite.binding import ffi
from numba.core.compiler_lock import global_compiler_lock

from .. import disk_cache
from ..compile_notice import compiling
from .fork_safety import wait_for

__all__ = ["cache_folder", "inline", "kept_in", "kernel"]

KEPT = 8  # folders of other versions, sources or Pythons
SUFFIX = ".kernel"
SETTINGS = ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "ENABLE_AVX", "DEBUGINFO_DEFAULT")

# In the order in which Numba takes them.
for _owner in (global_compiler_lock, getattr(getattr(ffi, "lib", None), "_lock", None)):
    if hasattr(_owner, "_lock") and hasattr(_owner, "__dict__"):
        wait_for(_owner, "_lock")


def kernel(*, fastmath: Collection[str] = ()) -> Callable[[Any], Any]:
    """Compile a function for every signature it is called with, releasing the GIL; keep it on disk.

    Parameters
    ----------
    fastmath
        LLVM's fast-math flags, such as ``{"contract", "reassoc"}``.
    """

    def decorate(function: Any) -> Any:
        compiled = _compiler(function, fastmath)
        if hasattr(compiled, "_cache"):
            compiled._cache = _Cache(compiled)
        _announce(compiled)
        return compiled

    return decorate


def _announce(compiled: Any) -> None:
    """Let a compilation that takes long be told of; what comes from disk is none."""
    with suppress(AttributeError):
        compiler, own = compiled._compiler, compiled._compiler.compile
        what = f"the CPU engine's kernel {compiled.py_func.__name__!r}"

        def compile_(*arguments: Any) -> Any:
            with compiling(what):
                return own(*arguments)

        compiler.compile = compile_


def inline(*, fastmath: Collection[str] = ()) -> Callable[[Any], Any]:
    """Compile a function that kernels call; it lies on disk within them."""
    # Always into the kernel, where it leaves no symbol: Numba compiles it by itself as well, for
    # other surroundings, and a process that compiles may call that one where another, that takes
    # the kernel from disk, does not. Sums that may be reassociated then differ in their last bits.
    return lambda function: _compiler(function, fastmath, forceinline=True)


def _compiler(function: Any, fastmath: Collection[str], **options: bool) -> Any:
    if function.__closure__:
        # What a factory makes has one name, and is told apart by a number that counts what
        # this process has compiled: kernels out of two processes' files would share symbols.
        made_of = _describe((function, frozenset(fastmath)), set())
        function.__qualname__ += f"_{hashlib.sha256(made_of.encode()).hexdigest()[:16]}"
    return numba.njit(
        nogil=True,
        error_model="numpy",
        boundscheck=False,
        fastmath=set(fastmath) or False,
        **options,
    )(function)


def cache_folder() -> Path | None:
    """Return where this version's kernels lie on disk; None where there is no such place.

    ``XLOSS_CACHE_DIR``, else the user's cache directory; in it one folder for each stamp of
    sources, Python and Numba.
    """
    root = disk_cache.root()
    return None if _STAMP is None or root is None else root / f"kernels-{_STAMP}"


def kept_in() -> str | None:
    """Return the folder that holds kernels, or None: nothing has been kept."""
    folder = cache_folder()
    try:
        kept = folder is not None and any(folder.glob(f"*{SUFFIX}"))
    except OSError:
        return None
    return str(folder) if kept else None


def _stamp() -> str | None:
    here = Path(__file__)
    sources = [here, *sorted((here.parent / "kernels").rglob("*.py"))]
    parts = [str(sys.implementation.cache_tag), numba.__version__, llvmlite.__version__]
    try:
        parts += [hashlib.sha256(source.read_bytes()).hexdigest() for source in sources]
    except OSError:
        return None
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:20] if sources else None


# Before the kernels are imported, rather than when the first is compiled: what is compiled then is
# what was imported, whatever has been written to the files since.
_STAMP = _stamp()


def _import_the_rest() -> None:
    """Load what Numba imports when first used, outside its lock: see `forks.importing`."""
    numba.typeof(np.empty(1))
    with suppress(ImportError, AttributeError):
        from numba.core.registry import cpu_target

        cpu_target.typing_context.refresh()
        cpu_target.target_context.refresh()


@contextmanager
def _without_blas() -> Iterator[None]:
    """Keep Numba from loading SciPy's linear algebra to see whether it is there.

    No kernel has any, and SciPy's OpenBLAS allocates for all its threads when it is loaded: under a
    limit of 150 MB it never ends. Code that does call it still loads it, when it is compiled.
    """
    try:
        from numba.np import linalg

        own = linalg.ensure_blas
    except (ImportError, AttributeError):  # a Numba that does it otherwise
        yield
        return

    def found() -> None:
        if find_spec("scipy") is None:
            raise ImportError("scipy is required for linear algebra")

    linalg.ensure_blas = found
    try:
        yield
    finally:
        linalg.ensure_blas = own


def _need_no_folder() -> None:
    """Let Numba compile in a folder that has been deleted.

    It tells where its errors come from by a path relative to the current folder, those errors too
    that it raises and catches itself while it compiles.
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


with _without_blas():
    _import_the_rest()
_need_no_folder()


class _Cache:
    """What Numba asks for a compiled signature of one function, and gives one to keep."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled

    def load_overload(self, sig: Any, target: Any) -> Any:
        """Return what was kept, or None."""
        try:
            target.refresh()
            path = self._path(sig, target.codegen())
            if path is None:
                return None
            payload = disk_cache.read(path)
            if payload is None:
                return None
            return _numba().rebuild(target, *pickle.loads(payload))
        except Exception:
            return None

    def save_overload(self, sig: Any, compiled: Any) -> None:
        """Keep what was compiled."""
        try:
            path = self._path(sig, compiled.codegen)
            if path is None or compiled.lifted or compiled.library.has_dynamic_globals:
                return
            payload = _numba().dumps(compiled._reduce())
            disk_cache.write(path, payload)
            _prune(path.parent)
        except Exception:
            return

    def _path(self, sig: Any, codegen: Any) -> Path | None:
        folder, made_of = cache_folder(), self._made_of
        if folder is None or " at 0x" in made_of:  # something that only this process has
            return None
        settings = [getattr(numba.config, name, None) for name in SETTINGS]
        key = repr((str(sig), codegen.magic_tuple(), settings, made_of))
        name = self._compiled.py_func.__name__
        return folder / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:40]}{SUFFIX}"

    @cached_property
    def _made_of(self) -> str:
        return _describe(self._compiled, set())

    # What else Numba may ask of a cache.
    @property
    def cache_path(self) -> str | None:
        folder = cache_folder()
        return None if folder is None else str(folder)

    def enable(self) -> None: ...

    def disable(self) -> None: ...

    def flush(self) -> None: ...


class _numba:
    """The private names of Numba's that are used here; one that is missing means: no cache."""

    def __init__(self) -> None:
        from numba.core.compiler import CompileResult
        from numba.core.serialize import dumps

        self.rebuild, self.dumps = CompileResult._rebuild, dumps


def _describe(value: Any, seen: set[Any]) -> str:
    """Say what compiled code is made of: bytecode, helpers, and every constant either takes."""
    if hasattr(value, "py_func"):
        options = sorted((k, _describe(v, seen)) for k, v in value.targetoptions.items())
        return f"{options}{_describe(value.py_func, seen)}"
    if isinstance(value, FunctionType):
        name = f"{value.__module__}.{value.__qualname__}"
        if value in seen:
            return name
        seen.add(value)
        known = value.__globals__
        taken = [known[name] for name in sorted(_names(value.__code__)) if name in known]
        closed = [_content(cell) for cell in value.__closure__ or ()]
        parts = (value.__code__, value.__defaults__, closed, taken)
        return repr((name, *(_describe(part, seen) for part in parts)))
    if isinstance(value, CodeType):
        names = (value.co_names, value.co_varnames, value.co_freevars)
        return repr((value.co_code, names, _describe(value.co_consts, seen)))
    if isinstance(value, np.ndarray):
        return repr((value.dtype.str, value.shape, hashlib.sha256(value.tobytes()).hexdigest()))
    if isinstance(value, set | frozenset):
        return repr(sorted(_describe(v, seen) for v in value))
    if isinstance(value, tuple | list):
        return repr([_describe(v, seen) for v in value])
    if isinstance(value, ModuleType | type):
        # A named tuple's fields: code reads them by their positions.
        return f"{value.__name__}{getattr(value, '_fields', '')}"
    return repr(value)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty as yet: the function's own name
        return None


def _names(code: CodeType) -> set[str]:
    inner = (c for c in code.co_consts if isinstance(c, CodeType))
    return set(code.co_names).union(*map(_names, inner))


@cache
def _prune(folder: Path) -> None:
    """Remove all but the youngest folders of other stamps, once in a process."""
    others = [f for f in folder.parent.glob("kernels-*") if f != folder]
    for old in sorted(others, key=lambda f: -f.stat().st_mtime)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
