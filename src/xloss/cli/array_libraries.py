"""The array libraries of this machine: devices, why one cannot be used, arrays of NumPy blocks."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pkgutil import resolve_name
from typing import Any

import numpy as np
import numpy.typing as npt

from ..capabilities import SUPPORT
from .output import Failure, fail, one_line

ALL = "all"
Block = npt.NDArray[Any]
Converter = Callable[[Block], Any]
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


class BackendMissing(Failure):
    """An array library that is not installed, or cannot compute here."""


def converter(name: str) -> Converter:
    """Return the function that turns a NumPy block into an array, on the GPU if there is one."""
    if name not in SUPPORTED:
        fail(f"--backend {name}: expected one of {', '.join(SUPPORTED)}, or {ALL}")
    found = library(name)
    if not found["available"]:
        install = f": {found['install']}" if found["install"] else ""
        raise BackendMissing(f"--backend {name}: {found['reason']}{install}")
    if name == "jax":  # which otherwise rounds float64 files to float32
        resolve_name("jax:config").update("jax_enable_x64", True)
    return CONVERTERS[name]


def _torch(block: Block) -> Any:
    import torch

    block = block.copy()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if block.dtype.name == "bfloat16":
        return torch.from_numpy(block.view(np.int16)).view(torch.bfloat16).to(device)
    return torch.from_numpy(block).to(device)


def _by(function: str) -> Converter:
    """Return a function of a copy: a library may keep and write to what it gets.

    A block may be the read-only memory of a mapped file.
    """
    return lambda block: resolve_name(function)(block.copy())


CONVERTERS: dict[str, Converter] = {
    "numpy": np.asarray,
    "torch": _torch,
    "jax": _by("jax.numpy:asarray"),
    "tensorflow": _by("tensorflow:constant"),
    "dask": _by("dask.array:from_array"),
    "cupy": _by("cupy:asarray"),
    "array_api_strict": _by("array_api_strict:asarray"),
}
