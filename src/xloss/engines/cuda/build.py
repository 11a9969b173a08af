"""Compiles the kernels at run time, and keeps what was compiled on disk for the next process.

One file holds one kernel for one architecture; its name is the hash of all that it was made of, and
it begins with the hash of its contents. Whatever goes wrong costs a compilation and nothing else.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from functools import cache
from io import StringIO
from pathlib import Path

from .. import disk_cache
from ..compile_notice import compiling
from .launch_plan import Constants

HERE = Path(__file__).parent / "kernels"
SUFFIX = ".cubin"
STANDARD = "c++17"
LEAST = 80  # the first with bfloat16 and with a maximum that keeps NaN


@cache
def sources() -> bytes:
    """Return the source of all kernels, as it was at the first call."""
    files = sorted([*HERE.glob("*.cu"), *HERE.glob("*.cuh")])
    return b"\0".join(part for f in files for part in (f.name.encode(), f.read_bytes()))


def compiled(constants: Constants, architecture: str) -> bytes:
    """Return the machine code of a kernel, from the disk cache or compiled now."""
    path = _path(constants, architecture)
    with suppress(OSError):
        found = None if path is None else disk_cache.read(path)
        if found is not None:
            return found
    with compiling(f"a kernel of the CUDA engine for {architecture}"):
        made = compile_kernel(constants, architecture)[0]
    if path is not None:
        with suppress(OSError):
            disk_cache.write(path, made)
    return made


@cache
def architecture(capability: int) -> str | None:
    """Return the architecture to compile for; None where the compiler knows none that fits.

    Machine code runs on later GPUs of the same generation.
    """
    from cuda.bindings import nvrtc

    known = nvrtc.nvrtcGetSupportedArchs()[1:][-1]
    fits = [a for a in known if a // 10 == capability // 10 and a <= capability]
    return f"sm_{max(fits)}" if fits and capability >= LEAST else None


def compile_kernel(
    constants: Constants, architecture: str, options: tuple[str, ...] = ()
) -> tuple[bytes, str]:
    """Compile a kernel; return the machine code and the compiler's messages.

    Parameters
    ----------
    constants
        From `plan`.
    architecture
        Such as ``"sm_90"``.
    options
        Of ptxas: ``("-v",)`` makes it report registers and spills.
    """
    from cuda.core import Program, ProgramOptions

    log = StringIO()
    given = ProgramOptions(
        # Every product and sum is rounded as written, so that a GPU gives the bits that the tests
        # see on the host.
        arch=architecture,
        std=STANDARD,
        fma=False,
        include_path=[str(HERE)],
        define_macro=[(name, str(value)) for name, value in constants],
        ptxas_options=list(options) or None,
    )
    source = (HERE / "kernels.cu").read_text("utf-8")
    code = Program(source, "c++", given).compile("cubin", logs=log).code
    return bytes(code), log.getvalue()


def _compiler() -> str:
    from cuda.bindings import nvrtc

    return repr(nvrtc.nvrtcVersion())


def _path(constants: Constants, architecture: str) -> Path | None:
    root = disk_cache.root()
    if root is None:
        return None
    made_of = repr((constants, architecture, STANDARD, "no fma", _compiler())).encode()
    made_of += sources()
    return root / "cuda" / f"{hashlib.sha256(made_of).hexdigest()[:40]}{SUFFIX}"
