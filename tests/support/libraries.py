"""The libraries that tests run on: what each has, and its arrays by the suite's adapters.

A test takes the fixture ``lib`` and runs once for each of NAMES. A library is imported when one of
its tests runs, so that a test on NumPy alone starts fast. CuPy and PyTorch on CUDA take part where
there is a GPU.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xloss
from array_adapters import adapter
from xloss_conformance.libraries import ArrayLibrary
from xloss_conformance.rounding import numpy_dtype as dtype

COMPILER = shutil.which("g++")  # runs the CUDA engine's kernels on the host
GPU = Path("/dev/nvidiactl").exists()
NAMES = ["numpy", "strict", "device1", "no_x64", "torch", "torch_generic", "jax", "dask"]
NAMES += ["tensorflow", "tensorflow_generic"] if find_spec("tensorflow") else []
NAMES += ["emulated"] if COMPILER else []
NAMES += ["standin"] if find_spec("cupy") else []
NAMES += ["cupy", "cuda"] if GPU else []
if "MUTANT_UNDER_TEST" in os.environ:  # mutmut runs them a thousand times: the host, and a device
    NAMES = ["numpy", "no_x64"]

FLOATS = ("float16", "bfloat16", "float32", "float64")
SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")


def _emulated_gpu(lib: Library) -> AbstractContextManager[Any]:
    return import_module("emulated").emulated()


@contextmanager
def _as_cupy(lib: Library) -> Iterator[None]:
    from xloss.backends.cupy import linear_products

    with pytest.MonkeyPatch.context() as patch, xloss.use_engine("generic"):
        # There is no GPU to ask, and no cuBLAS.
        patch.setattr(linear_products, "has_tensor_cores", lambda weight: False)
        yield


@dataclass(frozen=True, repr=False)
class Library:
    """Arrays of one library, on one device."""

    name: str
    module: str  # what the library is imported as
    adapter: str  # what makes and reads its arrays
    reads: bool = True  # validate="auto" reads its targets: a concrete host array
    lacks: frozenset[str] = frozenset()  # dtypes
    engine: str | None = None  # the engine its tests ask for by name
    inside: Callable[[Library], AbstractContextManager[Any]] | None = None

    def __repr__(self) -> str:
        return self.name

    @cached_property
    def xp(self) -> Any:
        """The library itself."""
        return import_module(self.module)

    @cached_property
    def arrays(self) -> ArrayLibrary:
        """What makes and reads its arrays."""
        return adapter(self.adapter)

    def used(self) -> AbstractContextManager[Any]:
        """What its tests run in."""
        if self.inside is not None:
            return self.inside(self)
        return xloss.use_engine(self.engine) if self.engine else nullcontext()

    def reading(self) -> AbstractContextManager[Any]:
        """What stands around a function whose result is on the host, as an evaluation's is."""
        return self.xp.transfers() if self.name == "standin" else nullcontext()

    def has(self, name: str) -> bool:
        """Tell whether there is such a dtype."""
        return name not in self.lacks

    def array(self, values: Any, name: str = "float32") -> Any:
        """An array of the named dtype; floats are rounded to it."""
        assert self.has(name), f"{self.name} has no {name}"
        if isinstance(values, list):  # integers of more than 53 bits must not pass through a float
            return self.arrays.array(np.array(values, dtype(name)))
        return self.arrays.array(np.array(values).astype(dtype(name)))

    def like(self, values: Any) -> Any:
        """An array of the values' own dtype: float64 becomes float32, everything else stays."""
        values = np.asarray(values)
        if values.dtype.kind == "i" and not self.has("int64"):
            return self.array(values, "int32")
        return self.array(values, "float32" if values.dtype.kind == "f" else values.dtype.name)

    def given(self, options: dict[str, Any]) -> dict[str, Any]:
        """The options of a call, the arrays among them this library's."""
        return {k: self.like(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}

    def host(self, x: Any) -> np.ndarray:
        """The values as a NumPy array; bfloat16 as float32."""
        self.owns(x)
        return self.read(x)

    def read(self, x: Any) -> np.ndarray:
        """The same of an array that may be another library's."""
        x = self.arrays.read(x)
        return x.astype(np.float32) if x.dtype.name == "bfloat16" else x

    def owns(self, x: Any) -> None:
        """Assert that x is this library's array on this library's device."""
        wrong = self.arrays.misplaced(x)
        assert wrong is None, wrong
        if self.name == "numpy":  # a scalar where the result is 0-d, as from NumPy's own functions
            assert isinstance(x, np.ndarray if x.ndim else np.generic), type(x)

    @staticmethod
    def dtype_of(x: Any) -> str:
        """The standard's name of an array's dtype."""
        return getattr(x.dtype, "name", None) or str(x.dtype).rsplit(".", 1)[-1]


NO_16 = frozenset({"float16", "bfloat16"})
NO_64 = frozenset({"float64", "int64", "uint64"})
GPU_LIKE: dict[str, Any] = {"reads": False, "lacks": frozenset({"bfloat16"})}
KINDS = {
    lib.name: lib
    for lib in (
        Library("numpy", "numpy", "numpy"),
        Library("strict", "array_api_strict", "strict", lacks=NO_16),
        # A device that is not the default one and that the host cannot read.
        Library("device1", "array_api_strict", "device1", reads=False, lacks=NO_16),
        # A device without 64-bit dtypes, as JAX is by default.
        Library("no_x64", "array_api_strict", "no_x64", reads=False, lacks=NO_16 | NO_64),
        Library("torch", "torch", "torch"),
        # The generic engine on tensors: what runs on a GPU and inside autograd.
        Library("torch_generic", "torch", "torch", engine="generic"),
        Library("jax", "jax.numpy", "jax", reads=False, lacks=NO_64),
        Library("dask", "dask.array", "dask in threes", reads=False),
        # Eager tensors of the host: the engines read them as NumPy arrays.
        Library("tensorflow", "tensorflow", "tensorflow"),
        # TensorFlow's own operations, as inside tf.function.
        Library("tensorflow_generic", "tensorflow", "tensorflow", engine="generic"),
        # The CUDA engine, whose kernels run on the host, on tensors taken for a GPU's.
        Library("emulated", "torch", "emulated", reads=False, inside=_emulated_gpu),
        Library("cupy", "cupy", "cupy", **GPU_LIKE),
        Library("standin", "standin", "standin", **GPU_LIKE, engine="generic", inside=_as_cupy),
        Library("cuda", "torch", "cuda", reads=False),
    )
}


def library(name: str) -> Library:
    """The library of that name."""
    return KINDS[name]


def across(
    names: tuple[str, ...] = (),
    jax: int = 1,
    dask: int = 99,
    *,
    kinds: tuple[str, ...] = (),
    having: str = "",
) -> pytest.MarkDecorator:
    """Every library with every loss (`name`) and every dtype (`kind`) that it has.

    JAX compiles each loss for a second, and Dask makes a graph of each call: of many they take the
    first few. `having` leaves out the libraries without that dtype.
    """
    most = {"jax": jax, "dask": dask}
    columns = ["lib", *(["name"] if names else []), *(["kind"] if kinds else [])]
    rows = []
    for lib in NAMES:
        lacks = KINDS[lib].lacks
        if having not in lacks:
            few = names[: most.get(lib, len(names))]
            rows += list(product([lib], few or [""], [k for k in kinds if k not in lacks] or [""]))
    rows = [tuple(filter(None, row)) for row in rows]
    rows = [row for row in rows if len(row) == len(columns)]
    return pytest.mark.parametrize(
        columns, rows, indirect=["lib"], ids=["-".join(row) for row in rows]
    )
