"""NumPy's arrays, and what every other library does in its own way."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import numpy as np

from ..model import DTYPES, LAYOUTS, Array, Stored

Function: TypeAlias = Callable[..., Any]
Arrays: TypeAlias = tuple[Any, ...]
Differentiated: TypeAlias = tuple[Any, Arrays]  # a value, and a gradient to each argument


class ArrayLibrary:
    """Arrays of one library on one device; this one: NumPy's."""

    name = "numpy"
    gradients = ""  # how the library itself differentiates; "" if it does not
    reads = True  # a concrete host array, whose labels may be read
    flushes: tuple[str, ...] = ()  # dtypes of logits whose subnormal results become 0
    flushes_generic: tuple[str, ...] = ()  # likewise, in the library's own operations alone
    compiles = False  # each new call, at a price
    same_bits = True  # a sum along a row does not depend on the batch around it
    dtypes: tuple[str, ...] = DTYPES
    long = True  # has 64-bit integers; int32 stands in for them, where it holds them
    layouts: tuple[str, ...] = tuple(layout for layout in LAYOUTS if layout != "filtered")
    module: Any = np
    types: Any = (np.ndarray, np.generic)  # of which its results are

    def version(self) -> str:
        return str(self.module.__version__)

    def array(self, values: Array, layout: str = "C") -> Any:
        """Return the values as an array of this library, lying in memory as asked."""
        return laid_out(values, layout)

    def read(self, x: Any) -> Array:
        """Return the values as a NumPy array of their dtype; bfloat16 may become float32."""
        return np.asarray(x)

    def host(self, x: Any) -> Array:
        """Return the same; floats as float64, which holds them all."""
        read = self.read(x)
        return read if read.dtype.kind in "iub" else read.astype(np.float64)

    def dtype(self, x: Any) -> str:
        return str(x.dtype.name)

    def misplaced(self, x: Any) -> str | None:
        """Return what is wrong with a result's type or device, or None."""
        if isinstance(x, self.types):
            return None
        return f"a {type(x).__module__}.{type(x).__qualname__}, not an array of {self.name}"

    def setting(self, dtype: str) -> AbstractContextManager[Any]:
        """Return what must hold while arrays of a dtype are made and used."""
        return nullcontext()

    def forget(self) -> None:
        """Free what the library keeps of calls that will not come again."""

    def differentiate(self, function: Function, arguments: Arrays, upstream: Any) -> Differentiated:
        """Return function(*arguments) and its gradient to each, by the library's own autodiff."""
        raise NotImplementedError(f"{self.name} has no autodiff")

    def refuses(self, arguments: Stored, layout: str) -> str | None:
        """Return what of the arguments cannot be made here, or None."""
        targets, lacking = arguments.targets, None
        if arguments.dtype not in self.dtypes:
            lacking = arguments.dtype
        elif targets is not None and targets.dtype.name in ("int64", "uint64") and not self.long:
            narrow = all(-(2**31) <= v < 2**31 for v in targets.ravel().tolist())
            lacking = None if narrow else targets.dtype.name
        if lacking is None and layout not in self.layouts:
            lacking = f"{layout} arrays"
        return lacking and f"{self.name} has no {lacking}"


def strided(values: Any, zeros: Callable[[tuple[int, ...]], Any]) -> Any:
    """Return a copy of an array in every other place of one twice as long along every axis."""
    view = zeros(tuple(2 * n for n in values.shape))[(slice(None, None, 2),) * values.ndim]
    view[...] = values
    return view


def is_tile(values: Array) -> bool:
    """Whether an array is one copy, repeated along its leading axis by a stride of 0."""
    return values.ndim > 0 and values.shape[0] > 1 and values.strides[0] == 0


def laid_out(values: Array, layout: str) -> Array:
    """Return a copy of an array that lies in memory as asked."""
    if layout == "broadcast":  # of one row, the others being the same
        return np.broadcast_to(values[:1].copy(), values.shape)
    if is_tile(values):  # not to be copied
        return values
    if layout == "F":
        return np.array(values, order="F")
    if layout == "reversed":
        return np.flip(np.flip(values).copy())
    if layout == "strided":
        return np.asarray(strided(values, lambda shape: np.zeros(shape, values.dtype)))
    if layout == "swapped":
        return values.astype(values.dtype.newbyteorder())
    if layout == "misaligned":
        room = bytearray(values.nbytes + 1)
        view = np.frombuffer(room, values.dtype, values.size, offset=1).reshape(values.shape)
        view[...] = values
        return view
    copy = np.array(values, order="C")
    if layout == "readonly":
        copy.flags.writeable = False
    return copy
