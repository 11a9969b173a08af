"""One tensor of a .safetensors file, read slice by slice."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from .file_problem import FileProblem, chosen_name
from .output import one_line

KINDS = {"F": "float", "BF": "bfloat", "I": "int", "U": "uint", "BOOL": "bool"}


class SafetensorsFile:
    """One tensor of a .safetensors file."""

    def __init__(self, file: str, name: str | None) -> None:
        try:
            import ml_dtypes  # noqa: F401  # NumPy knows bfloat16 once this is imported
            import safetensors
        except ModuleNotFoundError as error:
            raise FileProblem(f'{file}: needs {error.name}: pip install "xloss[cli]"') from None
        opened: Any = safetensors.safe_open  # whose methods have no types
        self._file, self._size = file, os.path.getsize(file)
        try:
            self._handle = opened(file, framework="numpy")
            self._name = chosen_name(file, name, sorted(self._handle.keys()))
            part = self._handle.get_slice(self._name)
            self.shape = tuple(part.get_shape())
            np.broadcast_to(np.float64(0), self.shape)  # ValueError if no array has this shape
        except (safetensors.SafetensorError, ValueError) as error:
            raise FileProblem(f"{file}: cannot be read: {one_line(error)}") from None
        stored = str(part.get_dtype())  # as F32 or BOOL
        kind = stored.rstrip("0123456789")
        self.dtype = KINDS.get(kind, kind) + stored.removeprefix(kind)

    def read(self, index: tuple[slice, ...]) -> npt.NDArray[Any]:
        """Return the part at these slices, one an axis."""
        # It is mapped into memory: a read beyond the end kills the process (SIGBUS).
        if os.path.getsize(self._file) < self._size:
            raise FileProblem(f"{self._file}: has become shorter while it was read")
        size = tuple(s.stop - s.start for s in index)
        if 0 in size:  # the library refuses an empty slice
            return np.empty(size, self.dtype)
        if not index:  # nor does it cut a tensor without axes
            return np.asarray(self._handle.get_tensor(self._name))
        return np.asarray(self._handle.get_slice(self._name)[index])
