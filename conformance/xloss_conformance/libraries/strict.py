"""array-api-strict: the standard and nothing else."""

from __future__ import annotations

from typing import Any

import array_api_strict as xp
import numpy as np

from ..model import Array
from .base import ArrayLibrary, laid_out


class Strict(ArrayLibrary):
    name = "strict"
    dtypes = ("float32", "float64")
    layouts = ("C", "F", "reversed", "strided", "broadcast", "readonly")

    def version(self) -> str:
        return str(xp.__version__)

    def array(self, values: Array, layout: str = "C") -> Any:
        return xp.asarray(laid_out(values, layout), copy=False)

    def host(self, x: Any) -> Array:
        read = np.from_dlpack(x) if x.dtype != xp.bool else np.asarray(x._array)
        return read if read.dtype.kind in "iub" else read.astype(np.float64)

    def dtype(self, x: Any) -> str:
        return str(x.dtype).rsplit(".", 1)[-1]

    def misplaced(self, x: Any) -> str | None:
        same = getattr(x, "__array_namespace__", lambda: None)() is xp
        return None if same else f"a {type(x).__qualname__}, not a strict array"
