"""From NumPy blocks of a file to arrays of the library that --backend names."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from .array_libraries import SUPPORTED, library
from .output import Failure, fail

ALL = "all"
Block = npt.NDArray[Any]
Converter = Callable[[Block], Any]


class BackendMissing(Failure):
    """An array library that is not installed, or cannot compute here."""


def must_be_known(name: str) -> None:
    """Refuse an unknown name before any library is imported."""
    if name not in SUPPORTED:
        fail(f"--backend {name}: expected one of {', '.join(SUPPORTED)}, or {ALL}")


def converter(name: str) -> Converter:
    """Return the function that turns a NumPy block into an array, on the GPU if there is one."""
    found = library(name)
    if not found["available"]:
        install = f": {found['install']}" if found["install"] else ""
        raise BackendMissing(f"--backend {name}: {found['reason']}{install}")
    return CONVERTERS[name]


def _by(module: str, function: str) -> Converter:
    """Return a library's own function of a NumPy array, which may keep and write to what it gets.

    A block may be the read-only memory of a mapped file.
    """

    def convert(block: Block) -> Any:
        return getattr(import_module(module), function)(block.copy())

    return convert


def _torch(block: Block) -> Any:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if block.dtype.name == "bfloat16":
        return torch.from_numpy(block.view(np.int16).copy()).view(torch.bfloat16).to(device)
    return torch.from_numpy(block.copy()).to(device)


def _jax(block: Block) -> Any:
    import jax

    config: Any = jax.config
    config.update("jax_enable_x64", True)  # otherwise JAX rounds float64 files to float32
    return jax.numpy.asarray(block)


CONVERTERS: dict[str, Converter] = {
    "numpy": np.asarray,
    "torch": _torch,
    "jax": _jax,
    "tensorflow": _by("tensorflow", "constant"),
    "dask": _by("dask.array", "from_array"),
    "cupy": _by("cupy", "asarray"),
    "array_api_strict": _by("array_api_strict", "asarray"),
}
