"""`xloss engines`: what this machine can run, what installs the rest; compiling it ahead."""

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


def _gpus(engine: str) -> list[str]:
    """Return the GPUs that an engine computes on, whatever array library sees them."""
    if engine != "cuda":
        return []
    from ..engines.device.gpus import gpus

    return gpus()


def compile_ahead(tell: Callable[[str, float], None] | None = None) -> dict[str, Any]:
    """Compile every kernel of the CPU engine, and the plain ones of the GPU that is here.

    Those that are on disk are found there. `tell` is called with each as it comes. An engine that
    this machine does not have is skipped, and named with the reason; with neither there is nothing
    to do.
    """
    started = perf_counter()
    reasons = {name: engines()[name] for name in ("cpu", "cuda")}
    skipped = [
        {"engine": name, "reason": reason} for name, reason in reasons.items() if reason is not None
    ]
    if len(skipped) == len(reasons):
        fail("; ".join(f"engine '{name}': {reason}" for name, reason in reasons.items()))
    from ..engines import kept

    kernels = []
    cache = None if kept.root() is None else str(kept.root())
    if reasons["cpu"] is None:
        from ..engines import compiled, cpu, xla_ffi

        for name, seconds in chain(cpu.warm(), xla_ffi.warm()):
            kernels.append({"name": name, "seconds": seconds})
            if tell is not None:
                tell(name, seconds)
        cache = compiled.kept_in()
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
    """Return what is known of one array library; it is imported for that."""
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
    except Exception as error:  # no driver, a broken build: errors of the library's own
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
