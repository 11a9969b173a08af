"""Arrays of each library: how they are made, read back and differentiated; one file each."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from ..model import Missing
from .base import ArrayLibrary

# Name -> the class that makes it, and the line that installs its library.
LIBRARIES = {
    "numpy": (".base:ArrayLibrary", "pip install xloss"),
    "strict": (".strict:Strict", "pip install array-api-strict"),
    "torch": (".torch:Torch", 'pip install "xloss[torch]"'),
    "cuda": (".torch:Cuda", 'pip install "xloss[torch]"'),
    "jax": (".jax:Jax", 'pip install "xloss[jax]"'),
    "tensorflow": (".tensorflow:TensorFlow", 'pip install "xloss[tensorflow]"'),
    "dask": (".dask:Dask", 'pip install "xloss[dask]"'),
    "cupy": (".cupy:CuPy", 'pip install "xloss[cupy]"'),
}

__all__ = ["LIBRARIES", "ArrayLibrary", "array_library"]


@cache
def _made(name: str) -> ArrayLibrary | Missing:
    where, install = LIBRARIES[name]
    module, _, kind = where.partition(":")
    try:
        made: ArrayLibrary = getattr(import_module(module, __package__), kind)()
    except ModuleNotFoundError as error:
        return Missing(f"{name}: {error.name} is not installed: {install}")
    except Missing as missing:
        return missing
    return made


def array_library(name: str) -> ArrayLibrary:
    """Return a library by name; Missing says why it is not here, and what installs it."""
    found = _made(name)
    if isinstance(found, Missing):
        raise found
    return found
