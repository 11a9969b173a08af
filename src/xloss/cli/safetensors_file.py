"""One tensor of a .safetensors file, read slice by slice."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .file_problem import FileProblem, chosen_name
from .npy_files import possible_shape
from .output import one_line

DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "BOOL": "bool",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
}


class SafetensorsFile:
    """One tensor of a .safetensors file."""

    def __init__(self, file: str, name: str | None) -> None:
        try:
            import ml_dtypes  # noqa: F401  # NumPy knows bfloat16 once this is imported
            import safetensors
        except ModuleNotFoundError as error:
            raise FileProblem(f'{file}: needs {error.name}: pip install "xloss[cli]"') from None
        self._open: Any = safetensors.safe_open
        self._file = file
        self._handle: Any
        try:
            self._handle = self._open(file, framework="numpy")
            self._name = chosen_name(file, name, sorted(self._handle.keys()))
            part = self._handle.get_slice(self._name)
            self.shape = possible_shape(tuple(part.get_shape()), 8)
        except (safetensors.SafetensorError, ValueError) as error:
            raise FileProblem(f"{file}: broken .safetensors file: {one_line(error)}") from None
        stored = str(part.get_dtype())
        if stored not in DTYPES:
            raise FileProblem(f"{file}: {self._name} has dtype {stored}, which is not supported")
        self.dtype = DTYPES[stored]

    def read(self, index: tuple[slice, ...]) -> npt.NDArray[Any]:
        """Return the part at these slices, one an axis."""
        size = tuple(s.stop - s.start for s in index)
        if 0 in size:  # the library refuses an empty slice
            return np.empty(size, self.dtype)
        import safetensors

        handle = self._handle
        try:
            block: npt.NDArray[Any] = (
                handle.get_slice(self._name)[index] if index else handle.get_tensor(self._name)
            )
        except safetensors.SafetensorError as error:
            raise FileProblem(f"{self._file}: cannot be read: {one_line(error)}") from None
        return block

    def release(self) -> None:
        """Map the file anew: the library maps it, and a new map has no page in memory yet."""
        self._handle = self._open(self._file, framework="numpy")
