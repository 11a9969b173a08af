"""A stand-in for CuPy where there is no GPU: an array that refuses to come to the host.

It computes with NumPy behind a namespace that offers only what array_api_compat.cupy offers, with
arguments that the function there takes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace
from typing import Any

import array_api_compat.cupy as cupy_namespace
import numpy as np

TRANSFERS: list[list[int]] = []  # of each block that allows them, how many elements each had


@contextmanager
def transfers() -> Iterator[list[int]]:
    """Allow arrays to come to the host by their method for it, and say how large they were."""
    TRANSFERS.append([])
    try:
        yield TRANSFERS[-1]
    finally:
        TRANSFERS.pop()


class Device:
    """A device with no more than CuPy's: an id, an equality, and no hash."""

    def __init__(self, device: int) -> None:
        self.id = device

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.id == other.id

    def __repr__(self) -> str:
        return f"<stand-in device {self.id}>"

    __hash__ = None  # type: ignore[assignment]


DEVICE = Device(0)


class DeviceArray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array on a device: no path to the host."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, values: Any) -> None:
        self._values = np.asarray(values)

    dtype = property(lambda self: self._values.dtype)
    shape = property(lambda self: self._values.shape)
    ndim = property(lambda self: self._values.ndim)
    size = property(lambda self: self._values.size)
    device = property(lambda self: Device(0))  # a new object at each look, as CuPy's
    T = property(lambda self: DeviceArray(self._values.T))

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return NAMESPACE

    def __getitem__(self, key: Any) -> DeviceArray:
        return DeviceArray(self._values[unwrap(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._values[unwrap(key)] = unwrap(value)

    def __array_ufunc__(self, function: Any, method: str, *given: Any, out: Any = None) -> Any:
        """Compute an operator: the mixin makes of each a function of NumPy's."""
        made = kernel(function, *given)
        if out is None:
            return made
        self._values[...] = made._values
        return self

    def view(self, dtype: Any) -> DeviceArray:
        return DeviceArray(self._values.view(dtype))

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a device array was brought to the host")

    __array__ = __bool__ = __float__ = __int__ = __complex__ = _refuse
    __iter__ = __len__ = __dlpack__ = tolist = item = _refuse

    def get(self) -> np.ndarray:
        """Come to the host, where a test allows it and counts."""
        if not TRANSFERS:
            self._refuse()
        TRANSFERS[-1].append(self._values.size)
        return self._values.copy()


def flushed(x: Any) -> Any:
    """What an elementwise kernel reads and writes: CuPy compiles them with -ftz=true."""
    if getattr(x, "dtype", None) != np.float32:
        return x  # single precision alone
    return np.where(np.abs(x) < np.finfo(np.float32).smallest_normal, np.copysign(0, x), x)


def kernel(function: Callable[..., Any], *args: Any) -> DeviceArray:
    with np.errstate(all="ignore"):  # a GPU warns of nothing
        return DeviceArray(flushed(function(*(flushed(unwrap(a)) for a in args))))


def unwrap(x: Any) -> Any:
    if isinstance(x, DeviceArray):
        return x._values
    if isinstance(x, tuple | list):
        return type(x)(unwrap(v) for v in x)
    return x


@cache
def inputs_of(name: str) -> int | None:
    """How many arrays an elementwise function of CuPy takes; None for any other function."""
    function = getattr(cupy_namespace, name)
    return function.nin if isinstance(function, cupy_namespace.ufunc) else None


@cache
def signature(name: str) -> inspect.Signature:
    return inspect.signature(getattr(cupy_namespace, name))


class Namespace:
    """What array_api_compat.cupy offers, on stand-in arrays."""

    __name__ = "array_api_compat.cupy"

    def __getattr__(self, name: str) -> Any:
        if not hasattr(cupy_namespace, name):
            raise AttributeError(f"array_api_compat.cupy has no {name}")
        mine = getattr(np, name)
        if isinstance(mine, float | type):
            return mine

        def call(*args: Any, **kwargs: Any) -> Any:
            assert kwargs.get("device", DEVICE) == DEVICE, f"{name} on another device"
            if (inputs := inputs_of(name)) is not None:
                assert (len(args), kwargs) == (inputs, {}), f"{name} takes {inputs} arrays"
                return kernel(mine, *args)
            signature(name).bind(*args, **kwargs)
            given = {k: unwrap(v) for k, v in kwargs.items() if k != "device"}
            with np.errstate(all="ignore"):
                return DeviceArray(mine(*(unwrap(a) for a in args), **given))

        return call

    @staticmethod
    def __array_namespace_info__() -> Any:
        dtypes = {name: np.dtype(name) for name in ("float32", "float64", "int32", "int64")}
        return SimpleNamespace(
            dtypes=lambda *, device=None, kind=None: dtypes,
            default_dtypes=lambda *, device=None: {"real floating": np.dtype("float64")},
        )


NAMESPACE = Namespace()
