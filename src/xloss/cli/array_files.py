"""Arrays in files: .npy and .safetensors read in blocks, .npz and .csv whole; none is unpickled."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .csv_file import read_csv
from .file_problem import FileProblem, must_be_a_file
from .npy_files import NpyFile, read_npz
from .safetensors_file import SafetensorsFile

__all__ = ["FileProblem", "Source", "open_array", "read_whole"]

EXPECTED = "expected a .npy, .npz, .safetensors or .csv file"
MAGIC = {b"\x93NUMPY": ".npy", b"PK\x03\x04": ".npz", b"PK\x05\x06": ".npz"}
PICKLES = (".pt", ".pth", ".ckpt", ".pkl", ".pickle")


class Source(Protocol):
    """An array in a file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape."""

    @property
    def dtype(self) -> str:
        """The array's dtype, by name."""

    def read(self, index: tuple[slice, ...]) -> npt.NDArray[Any]:
        """Return the part at these slices, one an axis, each with a start and a stop."""

    def release(self) -> None:
        """Give back the memory that what was read so far took in this process."""


class HeldArray:
    """An array in memory, of a file that can only be read whole."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self._array = array
        self.shape, self.dtype = array.shape, array.dtype.name

    def read(self, index: tuple[slice, ...]) -> npt.NDArray[Any]:
        """Return the part at these slices, one an axis."""
        return np.asarray(self._array[index])

    def release(self) -> None:
        """Keep the array: it could only be read whole again."""


def open_array(where: str) -> Source:
    """Open FILE, or one of its arrays, FILE::name; with exactly one array its name is implied.

    Raises
    ------
    FileProblem
        The file is missing, broken, truncated, of another kind than its name says, or holds no
        such array, or not one of numbers.
    """
    file, name = where, None
    if "::" in where and not os.path.exists(where):
        file, _, name = where.rpartition("::")
    if not file:
        raise FileProblem(f"{where!r}: expected the name of a file")
    try:
        must_be_a_file(file)
        with open(file, "rb") as f:
            start = f.read(6)
        if not start:
            raise FileProblem(f"{file}: is empty")
        return _opened(file, name, start)
    except OSError as error:
        raise FileProblem(f"{file}: {error.strerror or error}") from None


def read_whole(where: str) -> npt.NDArray[Any]:
    """Return an array in a file, all of it."""
    source = open_array(where)
    return source.read(tuple(slice(0, n) for n in source.shape))


def refuse_pickle(file: str) -> None:
    """Refuse a file that PyTorch or pickle wrote, and say what to save instead."""
    kind = Path(file).suffix.lower()
    if kind in PICKLES:
        raise FileProblem(
            f"{file}: a {kind} file is a pickle, which can run any code when it is loaded, so it "
            "is never opened here; where you trust it, load it and save the array again: "
            'safetensors.torch.save_file({"x": tensor.contiguous()}, "x.safetensors") or '
            'numpy.save("x.npy", tensor.numpy())'
        )


def _opened(file: str, name: str | None, start: bytes) -> Source:
    """Open a file by the kind that its name says, if its first bytes do not say another."""
    kind = Path(file).suffix.lower()
    refuse_pickle(file)
    if kind not in (".npy", ".npz", ".safetensors", ".csv"):
        raise FileProblem(f"{file}: {EXPECTED}")
    found = next((k for magic, k in MAGIC.items() if start.startswith(magic)), None)
    if kind in (".safetensors", ".csv"):
        if found:
            raise FileProblem(f"{file}: is a {found} file, not a {kind} file")
        if kind == ".safetensors":
            return SafetensorsFile(file, name)
        if start.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise FileProblem(f"{file}: is UTF-16 text; save it as UTF-8")
        return HeldArray(read_csv(file, name))
    if found != kind:
        raise FileProblem(f"{file}: is {f'a {found}' if found else 'no .npy or .npz'} file")
    if kind == ".npz":
        return HeldArray(read_npz(file, name))
    if name is not None:
        raise FileProblem(f"{file}: a .npy file holds one array, which has no name: {name!r}")
    return NpyFile(file)
