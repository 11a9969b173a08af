"""array-api-strict: the standard and nothing else."""

from __future__ import annotations

from typing import Any

import array_api_strict as xp
import numpy as np

from ..model import Array
from .base import ArrayLibrary, laid_out


class Strict(ArrayLibrary):
    name = "strict"
    module = xp
    dtypes: tuple[str, ...] = ("float32", "float64")
    place = "CPU_DEVICE"
    layouts = ("C", "F", "reversed", "strided", "broadcast", "readonly")

    @property
    def _device(self) -> Any:
        return xp.Device(self.place)

    def array(self, values: Array, layout: str = "C") -> Any:
        return xp.asarray(laid_out(values, layout), copy=False, device=self._device)

    def read(self, x: Any) -> Array:
        x = x.to_device(xp.Device("CPU_DEVICE"))
        return np.from_dlpack(x) if x.dtype != xp.bool else np.asarray(x._array)

    def dtype(self, x: Any) -> str:
        return str(x.dtype).rsplit(".", 1)[-1]

    def misplaced(self, x: Any) -> str | None:
        # Its array class is not public.
        if getattr(x, "__array_namespace__", lambda: None)() is not xp:
            return f"a {type(x).__qualname__}, not a strict array"
        return None if x.device == self._device else f"on {x.device}, not {self._device}"
