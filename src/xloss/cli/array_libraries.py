"""The array libraries of this machine, their devices, and why one cannot be used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..capabilities import SUPPORT
from .output import one_line

SUPPORTED = {support.library: support for support in SUPPORT}


def _torch_devices(torch: Any) -> list[str]:
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ["cpu", *(f"cuda:{i} {name}" for i, name in enumerate(names))]


def _jax_devices(jax: Any) -> list[str]:
    return [f"{d.platform}:{d.id} {d.device_kind}" for d in jax.devices()]


def _cupy_devices(cupy: Any) -> list[str]:
    runtime = cupy.cuda.runtime
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:  # without a driver, for one
        raise RuntimeError(f"no GPU: {one_line(error)}") from None
    if not count:
        raise RuntimeError("no GPU")
    names = [runtime.getDeviceProperties(i)["name"] for i in range(count)]
    return [f"cuda:{i} {name.decode()}" for i, name in enumerate(names)]


DEVICES = {"torch": _torch_devices, "jax": _jax_devices, "cupy": _cupy_devices}


def library(name: str) -> dict[str, Any]:
    """Import an array library, and return its version and devices, or why it cannot be used."""
    support = SUPPORTED[name]
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
