"""What a library's arrays are to the tests, and the names of the standard's dtypes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any

import numpy as np

import xloss

SMALLEST = 2.0**-126  # the smallest normal float32

FLOATS = ("float16", "bfloat16", "float32", "float64")
SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")


def dtype(name: str) -> np.dtype:
    """A NumPy dtype by the standard's name, bfloat16 included."""
    if name == "bfloat16":
        return np.dtype(import_module("ml_dtypes").bfloat16)
    return np.dtype(name)


class Library:
    """Arrays of one library, on one device."""

    module: str  # what the library is imported as
    reads = True  # validate="auto" reads its targets: a concrete host array
    writable = True  # its arrays can be written to
    lost = 0.0  # the least float32 it holds, where smaller ones become 0 on the way
    lacks: frozenset[str] = frozenset()  # dtypes
    engine: str | None = None  # the engine its tests ask for by name

    def __init__(self, name: str) -> None:
        self.name = name
        self.xp: Any = import_module(self.module)

    def __repr__(self) -> str:
        return self.name

    def used(self) -> AbstractContextManager[Any]:
        """What its tests run in."""
        return xloss.use_engine(self.engine) if self.engine else nullcontext()

    def reading(self) -> AbstractContextManager[Any]:
        """What stands around a function whose result is on the host, as an evaluation's is."""
        return nullcontext()

    def has(self, name: str) -> bool:
        """Tell whether there is such a dtype."""
        return name not in self.lacks

    def array(self, values: Any, name: str = "float32") -> Any:
        """An array of the named dtype; floats are rounded to it."""
        assert self.has(name), f"{self.name} has no {name}"
        if isinstance(values, list):  # integers of more than 53 bits must not pass through a float
            return self._of(np.array(values, dtype(name)))
        return self._of(np.array(values).astype(dtype(name)))

    def like(self, values: Any) -> Any:
        """An array of the values' own dtype: float64 becomes float32, everything else stays."""
        values = np.asarray(values)
        if values.dtype.kind == "i" and not self.has("int64"):
            return self.array(values, "int32")
        return self.array(values, "float32" if values.dtype.kind == "f" else values.dtype.name)

    def _of(self, values: np.ndarray) -> Any:
        return values

    def host(self, x: Any) -> np.ndarray:
        """The values as a NumPy array; bfloat16 as float32."""
        self.owns(x)
        return self._read(x)

    def _read(self, x: Any) -> np.ndarray:
        x = np.asarray(x)
        return x.astype(np.float32) if x.dtype.name == "bfloat16" else x

    def owns(self, x: Any) -> None:
        """Assert that x is this library's array on this library's device."""
        assert isinstance(x, self.xp.ndarray), type(x)

    @staticmethod
    def dtype_of(x: Any) -> str:
        """The standard's name of an array's dtype."""
        return getattr(x.dtype, "name", None) or str(x.dtype).rsplit(".", 1)[-1]
