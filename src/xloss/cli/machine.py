"""Run `xloss engines`: what this machine can run, what installs the rest, and compiling ahead."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from itertools import chain
from time import perf_counter
from typing import Any

from .. import __version__
from ..capabilities import SUPPORT, Support
from ..engines import engines
from .output import fail, one_line


def machine() -> dict[str, Any]:
    """Return the array libraries found, with version and devices, and the engines."""
    return {
        "xloss": __version__,
        "backends": [_library(support) for support in SUPPORT],
        "engines": [
            {"name": name, "available": reason is None, "reason": reason, "devices": _gpus(name)}
            for name, reason in engines().items()
        ],
    }


def version_of(library: str) -> str:
    """Return the version of an array library that can be imported."""
    return str(import_module(library).__version__)


def _gpus(engine: str) -> list[str]:
    """Return the GPUs that an engine computes on, as the driver lists them."""
    if engine != "cuda":
        return []
    from ..engines.cuda.gpus import gpus

    return gpus()


def compile_ahead(tell: Callable[[str, float], None] | None = None) -> dict[str, Any]:
    """Compile every kernel of the CPU engine and the usual ones of the GPU engine.

    Kernels that are on disk already are loaded from there. `tell` is called with the name and the
    seconds of each. An engine that cannot run here is skipped and named with the reason; if neither
    can, the command fails.
    """
    started = perf_counter()
    reasons = {name: engines()[name] for name in ("cpu", "cuda")}
    skipped = [
        {"engine": name, "reason": reason} for name, reason in reasons.items() if reason is not None
    ]
    if len(skipped) == len(reasons):
        fail("; ".join(f"engine '{name}': {reason}" for name, reason in reasons.items()))
    from ..engines import disk_cache

    kernels = []
    cache = None if disk_cache.root() is None else str(disk_cache.root())
    if reasons["cpu"] is None:
        from ..engines.cpu import engine as cpu
        from ..engines.cpu import kernel_cache, xla_ffi

        for name, seconds in chain(cpu.warm(), xla_ffi.warm()):
            kernels.append({"name": name, "seconds": seconds})
            if tell is not None:
                tell(name, seconds)
        cache = kernel_cache.kept_in()
    if reasons["cuda"] is None:
        from . import warm_gpu

        kernels += warm_gpu.warm(tell)
    return {
        "kernels": kernels,
        "skipped": skipped,
        "seconds": perf_counter() - started,
        "cache": cache,
    }


def _library(support: Support) -> dict[str, Any]:
    """Import one array library, and return its version and devices, or why it cannot be used."""
    name = support.library
    found: dict[str, Any] = {"name": name, "available": False, "version": None, "devices": []}
    found |= {"dtypes": list(support.dtypes), "features": sorted(support.features)}
    found |= {"reason": None, "install": None}
    try:
        module = import_module(name)
        found["version"] = str(module.__version__)
        found["devices"] = DEVICES[name](module) if name in DEVICES else ["cpu"]
    except ModuleNotFoundError as error:
        reason = f"cannot be imported: {one_line(error)}"
        if error.name == name:
            reason = "not installed"
        return found | {"reason": reason, "install": support.install}
    except Exception as error:  # a missing driver or a broken build, by any error of the library
        return found | {"reason": one_line(error)}
    return found | {"available": True}


def _torch_devices(torch: Any) -> list[str]:
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ["cpu", *(f"cuda:{i} {name}" for i, name in enumerate(names))]


def _jax_devices(jax: Any) -> list[str]:
    return [f"{d.platform}:{d.id} {d.device_kind}" for d in jax.devices()]


def _cupy_devices(cupy: Any) -> list[str]:
    runtime = cupy.cuda.runtime
    names = [runtime.getDeviceProperties(i)["name"] for i in range(runtime.getDeviceCount())]
    return [f"cuda:{i} {name.decode()}" for i, name in enumerate(names)]


DEVICES = {"torch": _torch_devices, "jax": _jax_devices, "cupy": _cupy_devices}
