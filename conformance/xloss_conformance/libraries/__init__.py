"""Arrays of each library: how they are made, read back and differentiated; one file each."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from ..load_object import missing
from ..model import Missing
from .base import ArrayLibrary

# Name -> the class that makes it.
LIBRARIES = {
    "numpy": ".base:ArrayLibrary",
    "strict": ".strict:Strict",
    "torch": ".torch:Torch",
    "cuda": ".torch:Cuda",
    "jax": ".jax:Jax",
    "tensorflow": ".tensorflow:TensorFlow",
    "dask": ".dask:Dask",
    "cupy": ".cupy:CuPy",
}

__all__ = ["LIBRARIES", "ArrayLibrary", "array_library"]


@cache
def _made(name: str) -> ArrayLibrary | Missing:
    module, _, kind = LIBRARIES[name].partition(":")
    try:
        made: ArrayLibrary = getattr(import_module(module, __package__), kind)()
    except ModuleNotFoundError as error:
        return missing(name, error)
    except Missing as lacking:
        return lacking
    return made


def array_library(name: str) -> ArrayLibrary:
    """Return a library by name; Missing says why it is not here, and what installs it."""
    found = _made(name)
    if isinstance(found, Missing):
        raise found
    return found
