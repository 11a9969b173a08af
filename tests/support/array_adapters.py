"""Adapters of arrays that only tests have: devices of array_api_strict, stand-ins for a GPU.

They are adapters as the conformance suite has them, whose own ones serve all other libraries.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from xloss_conformance.libraries import ArrayLibrary, array_library
from xloss_conformance.model import Array


def _strict(place: str) -> ArrayLibrary:
    """Devices that are not the default one and that the host cannot read."""
    from xloss_conformance.libraries.strict import Strict

    class Elsewhere(Strict):
        def array(self, values: Array, layout: str = "C") -> Any:
            name, integer = values.dtype.name, values.dtype.kind in "iub"
            if ("64" in name and not self.long) if integer else name not in self.dtypes:
                # An integer that fits, or a float that the suite means for any dtype.
                values = values.astype("int32" if integer else "float32")
            return super().array(values, layout)

    made = Elsewhere()
    made.place, made.reads = place, False
    if place == "no_x64":
        made.dtypes, made.long = ("float32",), False
    return made


def _dask() -> ArrayLibrary:
    """Chunks of 3 along every axis, however long: the class axis is cut too."""
    from xloss_conformance.libraries.dask import Dask

    made = Dask()
    made.most_chunks = sys.maxsize
    return made


def _emulated() -> ArrayLibrary:
    """PyTorch's CPU tensors, as they would be on a GPU."""
    from xloss_conformance.libraries.torch import Torch

    made = Torch()
    made.name, made.reads, made.same_bits = "emulated", False, False
    # A GPU's tensors lie at addresses that their dtype divides: copies to it make them so.
    made.layouts = tuple(name for name in Torch.layouts if name != "misaligned")
    return made


class StandIn(ArrayLibrary):
    """CuPy's stand-in: arrays that refuse to come to the host, kernels that flush subnormals."""

    name = "standin"
    reads = False
    same_bits = False
    # As the adapter of CuPy has them; without a GPU it cannot be made.
    flushes = ("float16", "float32")
    dtypes = ("float32", "float64", "float16")
    layouts = ("C", "F", "reversed", "strided", "broadcast")

    def __init__(self) -> None:
        self.arrays: Any = import_module("standin")

    def array(self, values: Array, layout: str = "C") -> Any:
        return self.arrays.DeviceArray(super().array(values, layout))

    def read(self, x: Any) -> Array:
        return super().read(x._values)

    def misplaced(self, x: Any) -> str | None:
        if not isinstance(x, self.arrays.DeviceArray):
            return f"a {type(x).__name__}, not a stand-in's array"
        return None if x.device == self.arrays.DEVICE else f"on {x.device}"


ADAPTERS: dict[str, Callable[[], ArrayLibrary]] = {
    "device1": lambda: _strict("device1"),
    "no_x64": lambda: _strict("no_x64"),
    "dask in threes": _dask,
    "emulated": _emulated,
    "standin": StandIn,
}


def adapter(name: str) -> ArrayLibrary:
    """Return the adapter of that name: one of these, or the suite's own."""
    return ADAPTERS[name]() if name in ADAPTERS else array_library(name)
