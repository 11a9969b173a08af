"""`xloss engines`: what this machine can run, and what line installs the rest."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from typing import Any

from ..engines import engines
from .output import one_line

EXTRAS = {
    "torch": "torch",
    "jax": "jax",
    "dask": "dask",
    "cupy": "cupy",
    "cpu": "fast",
    "cuda": "cuda",
}


def machine() -> dict[str, Any]:
    """Return the array libraries found, with version and devices, and the engines."""
    return {
        "xloss": version("xloss"),
        "backends": [_library(name) for name in DEVICES],
        "engines": [
            {"name": name, "available": reason is None, "reason": reason,
             "install": _install(name) if reason else None}
            for name, reason in engines().items()
        ],
    }  # fmt: skip


def _library(name: str) -> dict[str, Any]:
    """Return what is known of one array library; it is imported for that."""
    found: dict[str, Any] = {"name": name, "available": False, "version": None, "devices": []}
    try:
        module = import_module(name)
        found["version"] = str(module.__version__)
        found["devices"] = DEVICES[name](module)
    except ModuleNotFoundError as error:
        absent = error.name == name
        reason = "not installed" if absent else f"cannot be imported: {one_line(error)}"
        return found | {"reason": reason, "install": _install(name)}
    except Exception as error:  # a broken installation, a missing driver: each library has its own
        return found | {"reason": one_line(error), "install": None}
    return found | {"available": True, "reason": None, "install": None}


def _install(name: str) -> str | None:
    """Return the line that installs what a backend or an engine needs."""
    return f'pip install "xloss[{EXTRAS[name]}]"' if name in EXTRAS else None


def _torch_devices(torch: Any) -> list[str]:
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ["cpu", *(f"cuda:{i} {name}" for i, name in enumerate(names))]


def _jax_devices(jax: Any) -> list[str]:
    return [f"{d.platform}:{d.id} {d.device_kind}" for d in jax.devices()]


def _cupy_devices(cupy: Any) -> list[str]:
    runtime = cupy.cuda.runtime
    names = [runtime.getDeviceProperties(i)["name"] for i in range(runtime.getDeviceCount())]
    return [f"cuda:{i} {name.decode()}" for i, name in enumerate(names)]


DEVICES: dict[str, Callable[[Any], list[str]]] = {
    "numpy": lambda _: ["cpu"],
    "torch": _torch_devices,
    "jax": _jax_devices,
    "dask": lambda _: ["cpu"],
    "cupy": _cupy_devices,
}
