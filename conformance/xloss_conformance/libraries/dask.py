"""Dask arrays in chunks of 3, or in five along an axis, along the class axis too."""

from __future__ import annotations

from typing import Any

import dask
import dask.array as da
import numpy as np

from ..model import Array
from .base import ArrayLibrary, laid_out


class Dask(ArrayLibrary):
    name = "dask"
    module = dask
    types = da.Array
    reads = False
    same_bits = False  # chunks of a row are merged: another cut, other bits
    dtypes = ("float32", "float64")
    most_chunks = 5  # along an axis
    layouts = (*ArrayLibrary.layouts, "filtered")

    def array(self, values: Array, layout: str = "C") -> Any:
        if layout == "filtered":  # every other row of twice as many
            kept = self.array(np.arange(2 * len(values)) % 2 == 1)
            return self.array(np.repeat(values, 2, axis=0))[kept]
        cut = tuple(max(3, -(-n // self.most_chunks)) for n in values.shape)
        lazy: Any = da.from_array
        return lazy(laid_out(values, layout), chunks=cut)

    def read(self, x: Any) -> Array:
        return np.asarray(x.compute(scheduler="sync"))
