"""`xloss engines`: what this machine can run, what installs the rest, and compiling ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from time import perf_counter
from typing import Any

import typer

from .. import __version__
from ..engines import disk_cache, engines
from .array_libraries import SUPPORTED, library
from .output import fail
from .terminal import Json, show, show_machine, show_warm


def engines_command(
    warm: bool = typer.Option(
        False,
        "--warm",
        help="Compile the kernels for this CPU and GPU now and keep them on disk, so that no "
        "later call has to wait for the compiler.",
    ),
    as_json: Json = False,
) -> None:
    """Print the array libraries, devices and engines found here, and what installs the rest."""
    if warm:
        show(_compile_ahead(tell=not as_json), as_json, show_warm)
    else:
        show(_machine(), as_json, show_machine)


def _machine() -> dict[str, Any]:
    """Return the array libraries found, with version and devices, and the engines."""
    return {
        "xloss": __version__,
        "backends": [library(name) for name in SUPPORTED],
        "engines": [
            {"name": name, "available": reason is None, "reason": reason, "devices": _gpus(name)}
            for name, reason in engines().items()
        ],
    }


def _gpus(engine: str) -> list[str]:
    """Return the GPUs that an engine computes on, as the driver lists them."""
    if engine != "cuda":
        return []
    from ..engines.cuda.driver import gpus

    return gpus()


def _compile_ahead(tell: bool) -> dict[str, Any]:
    """Compile every kernel of the CPU engine and the usual ones of the GPU engine.

    Kernels that are on disk already are loaded from there. With `tell` each is printed as soon as
    it is there. An engine that cannot run here is skipped and named with the reason; if neither
    can, the command fails.
    """
    started = perf_counter()
    reasons = {name: engines()[name] for name in ("cpu", "cuda")}
    skipped = [
        {"engine": name, "reason": reason} for name, reason in reasons.items() if reason is not None
    ]
    if len(skipped) == len(reasons):
        fail("; ".join(f"engine '{name}': {reason}" for name, reason in reasons.items()))
    compiling: list[Iterator[tuple[str, float]]] = []
    kept_in: Callable[[], object] = disk_cache.root
    if reasons["cpu"] is None:
        from ..engines.cpu import engine as cpu
        from ..engines.cpu import kernel_cache, xla_ffi

        compiling += [cpu.warm(), xla_ffi.warm()]
        kept_in = kernel_cache.kept_in
    if reasons["cuda"] is None:
        from . import warm_gpu

        compiling.append(warm_gpu.warm())
    kernels = []
    for name, seconds in chain(*compiling):
        kernels.append({"name": name, "seconds": seconds})
        if tell:
            print(f"{seconds:8.2f} s  {name}", flush=True)
    cache = kept_in()
    return {
        "kernels": kernels,
        "skipped": skipped,
        "seconds": perf_counter() - started,
        "cache": None if cache is None else str(cache),
    }
