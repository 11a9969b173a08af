"""Arrays in files: .npy and .safetensors read in blocks, .npz and .csv whole; none is unpickled."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeAlias

import numpy.typing as npt

from .._arrays.inspect import FLOATS, INTEGERS
from .csv_file import read_csv
from .file_problem import FileProblem, must_be_a_file
from .npy_files import HeldArray, NpyFile, read_npz
from .safetensors_file import SafetensorsFile

__all__ = ["FileProblem", "Source", "open_array", "read_whole"]

MAGIC = {".npy": b"\x93NUMPY", ".npz": b"PK"}  # what the file of a kind begins with
PICKLES = (".pt", ".pth", ".ckpt", ".pkl", ".pickle")


Source: TypeAlias = HeldArray | NpyFile | SafetensorsFile


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
        source = _opened(file, name)
    except OSError as error:
        raise FileProblem(f"{file}: {error.strerror or error}") from None
    if source.dtype not in {*FLOATS, *INTEGERS, "bool"}:
        raise FileProblem(
            f"{file}: expected an array of floats, integers or bools, got {source.dtype}; bfloat16 "
            "is kept by .safetensors, not by .npy"
        )
    return source


def read_whole(where: str) -> npt.NDArray[Any]:
    """Return an array in a file, all of it."""
    source = open_array(where)
    return source.read(tuple(slice(0, n) for n in source.shape))


def _opened(file: str, name: str | None) -> Source:
    """Open a file by the kind that its name says."""
    with open(file, "rb") as f:
        start = f.read(6)
    kind = Path(file).suffix.lower()
    if kind in PICKLES:
        raise FileProblem(
            f"{file}: a {kind} file is a pickle, which can run any code when it is loaded, so it "
            "is never opened here; where you trust it, load it and save the array again: "
            'safetensors.torch.save_file({"x": tensor.contiguous()}, "x.safetensors") or '
            'numpy.save("x.npy", tensor.numpy())'
        )
    if not start:
        raise FileProblem(f"{file}: is empty")
    # NumPy would read what the file is, whatever its name.
    if not start.startswith(MAGIC.get(kind, b"")):
        raise FileProblem(f"{file}: is no {kind} file")
    if kind == ".safetensors":
        return SafetensorsFile(file, name)
    if kind == ".csv":
        return HeldArray(read_csv(file, name))
    if kind == ".npz":
        return read_npz(file, name)
    if kind != ".npy":
        raise FileProblem(f"{file}: expected a .npy, .npz, .safetensors or .csv file")
    if name is not None:
        raise FileProblem(f"{file}: a .npy file holds one array, which has no name: {name!r}")
    return NpyFile(file)
