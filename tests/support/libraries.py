"""The one place where tests make arrays of each library, read them back, and know what it has.

A test takes the fixture ``lib`` and runs once for each of NAMES. A library is imported when one of
its tests runs, so that a test on NumPy alone starts fast. CuPy and PyTorch on CUDA take part where
there is a GPU.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from library_kind import FLOATS as FLOATS
from library_kind import SIGNED as SIGNED
from library_kind import SMALLEST, Library
from library_kind import UNSIGNED as UNSIGNED
from library_kind import dtype as dtype

COMPILER = shutil.which("g++")  # runs the CUDA engine's kernels on the host
GPU = Path("/dev/nvidiactl").exists()
NAMES = ["numpy", "strict", "device1", "no_x64", "torch", "torch_generic", "jax", "dask"]
NAMES += ["tensorflow", "tensorflow_generic"] if find_spec("tensorflow") else []
NAMES += ["emulated"] if COMPILER else []
NAMES += ["standin"] if find_spec("cupy") else []
NAMES += ["cupy", "cuda"] if GPU else []


class NumPy(Library):
    module = "numpy"

    def owns(self, x: Any) -> None:
        # A scalar where the result is 0-d, as from NumPy's own functions.
        kinds = np.ndarray if getattr(x, "ndim", 0) else np.generic
        assert isinstance(x, kinds), type(x)


class Strict(Library):
    module = "array_api_strict"
    lacks = frozenset({"float16", "bfloat16"})
    place = "CPU_DEVICE"

    @property
    def device(self) -> Any:
        return self.xp.Device(self.place)

    def _of(self, values: np.ndarray) -> Any:
        return self.xp.asarray(values, device=self.device)

    def _read(self, x: Any) -> np.ndarray:
        return np.from_dlpack(x.to_device(self.xp.Device("CPU_DEVICE")))

    def owns(self, x: Any) -> None:
        # Its array class is not public.
        assert x.__array_namespace__().__name__ == "array_api_strict", type(x)
        assert x.device == self.device, x.device


class StrictDevice1(Strict):
    """A device that is not the default one and that the host cannot read."""

    place = "device1"
    reads = False


class StrictNoX64(StrictDevice1):
    """A device without 64-bit dtypes, as JAX is by default."""

    place = "no_x64"
    lacks = Strict.lacks | {"float64", "int64", "uint64"}


class Torch(Library):
    module = "torch"
    place = "cpu"

    def _of(self, values: np.ndarray) -> Any:
        if values.dtype.name == "bfloat16":
            return self._of(values.astype(np.float32)).to(self.xp.bfloat16)
        # from_numpy would share memory with the caller's array.
        return self.xp.from_numpy(values.copy()).to(self.place)

    def _read(self, x: Any) -> np.ndarray:
        x = x.detach().cpu()
        return (x.float() if x.dtype == self.xp.bfloat16 else x).numpy()

    def owns(self, x: Any) -> None:
        assert isinstance(x, self.xp.Tensor), type(x)
        assert x.device.type == self.place, x.device


class TorchGeneric(Torch):
    """The generic engine on tensors: what runs on a GPU and inside autograd."""

    engine = "generic"


class Emulated(Torch):
    """The CUDA engine, whose kernels run on the host, on tensors taken for a GPU's."""

    reads = False

    def used(self) -> AbstractContextManager[Any]:
        from emulated import emulated

        return emulated()


class Cuda(Torch):
    place = "cuda"
    reads = False


class Jax(Library):
    """JAX as it comes: without 64-bit dtypes."""

    module = "jax.numpy"
    reads = False
    lost = SMALLEST
    writable = False
    lacks = frozenset({"float64", "int64", "uint64"})

    def _of(self, values: np.ndarray) -> Any:
        return self.xp.asarray(values)


class Dask(Library):
    """Chunks of 3 along every axis: the class axis is cut too."""

    module = "dask.array"
    reads = False
    writable = False

    def _of(self, values: np.ndarray) -> Any:
        return self.xp.from_array(values, chunks=3)

    def _read(self, x: Any) -> np.ndarray:
        return super()._read(x.compute(scheduler="sync"))

    def owns(self, x: Any) -> None:
        assert isinstance(x, self.xp.Array), type(x)


class TensorFlow(Library):
    """Eager tensors of the host: the engines read them as NumPy arrays."""

    module = "tensorflow"
    writable = False

    def _of(self, values: np.ndarray) -> Any:
        return self.xp.constant(values)

    def owns(self, x: Any) -> None:
        assert isinstance(x, self.xp.Tensor), type(x)


class TensorFlowGeneric(TensorFlow):
    """TensorFlow's own operations, as inside tf.function; they make 0 of subnormal numbers."""

    engine = "generic"
    lost = SMALLEST


class CuPy(Library):
    module = "cupy"
    reads = False
    lost = SMALLEST
    lacks = frozenset({"bfloat16"})

    def _of(self, values: np.ndarray) -> Any:
        return self.xp.asarray(values)

    def _read(self, x: Any) -> np.ndarray:
        return self.xp.asnumpy(x)


class StandIn(Library):
    """CuPy's stand-in: arrays that refuse to come to the host, kernels that flush subnormals."""

    module = "standin"
    reads = False
    lost = SMALLEST
    lacks = frozenset({"bfloat16"})
    engine = "generic"

    def _of(self, values: np.ndarray) -> Any:
        return self.xp.DeviceArray(values.copy())

    def _read(self, x: Any) -> np.ndarray:
        return x._values

    def owns(self, x: Any) -> None:
        assert isinstance(x, self.xp.DeviceArray), type(x)
        assert x.device == self.xp.DEVICE

    def reading(self) -> AbstractContextManager[Any]:
        return self.xp.transfers()

    @contextmanager
    def used(self) -> Iterator[None]:
        from xloss.backends.cupy import linear_products

        with pytest.MonkeyPatch.context() as patch, super().used():
            # There is no GPU to ask, and no cuBLAS.
            patch.setattr(linear_products, "has_tensor_cores", lambda weight: False)
            yield


KINDS = {
    "numpy": NumPy,
    "strict": Strict,
    "device1": StrictDevice1,
    "no_x64": StrictNoX64,
    "torch": Torch,
    "torch_generic": TorchGeneric,
    "jax": Jax,
    "dask": Dask,
    "tensorflow": TensorFlow,
    "tensorflow_generic": TensorFlowGeneric,
    "emulated": Emulated,
    "cupy": CuPy,
    "standin": StandIn,
    "cuda": Cuda,
}


@cache
def library(name: str) -> Library:
    """The library of that name, imported now."""
    return KINDS[name](name)


def across(
    names: tuple[str, ...] = (), jax: int = 1, *, kinds: tuple[str, ...] = (), having: str = ""
) -> pytest.MarkDecorator:
    """Every library with every loss (`name`) and every dtype (`kind`) that it has.

    JAX compiles each loss for a second: it takes the first few. `having` leaves out the libraries
    without that dtype.
    """
    columns = ["lib", *(["name"] if names else []), *(["kind"] if kinds else [])]
    rows = []
    for lib in NAMES:
        lacks = KINDS[lib].lacks
        if having not in lacks:
            few = names[:jax] if lib == "jax" else names
            rows += list(product([lib], few or [""], [k for k in kinds if k not in lacks] or [""]))
    rows = [tuple(filter(None, row)) for row in rows]
    rows = [row for row in rows if len(row) == len(columns)]
    return pytest.mark.parametrize(
        columns, rows, indirect=["lib"], ids=["-".join(row) for row in rows]
    )
