""".npy files, mapped into memory, and the members of .npz files; nothing is ever unpickled."""

from __future__ import annotations

import mmap
import sys
import warnings
import zipfile
import zlib
from math import prod
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from .file_problem import FileProblem, chosen_name, shortened
from .output import one_line

Block = npt.NDArray[Any]
Index = tuple[slice, ...]

# What zipfile raises of a broken archive, and NumPy of a broken member.
BROKEN = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, RuntimeError, NotImplementedError)
MAX_AXES = 64  # of NumPy's arrays
MAX_HEADER = 10_000  # bytes: NumPy refuses to parse a longer header of a .npy file


class NpyFile:
    """A .npy file, mapped into memory, so that only the parts that are read take any."""

    def __init__(self, file: str) -> None:
        with open(file, "rb") as f:
            shape, fortran, dtype = _header(f, file)
            begin = f.tell()
            f.seek(0, 2)
            _must_be_complete(file, f.tell() - begin, shape, dtype)
            self._map = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
        order: Any = "F" if fortran else "C"
        self._array: Block = np.ndarray(shape, dtype, self._map, begin, order=order)
        self._file = file
        self.shape, self.dtype = shape, dtype.name

    def read(self, index: Index) -> Block:
        """Return the part at these slices, one an axis."""
        if self._map.size() < len(self._map):  # a read beyond the end kills the process (SIGBUS)
            raise FileProblem(f"{self._file}: has become shorter while it was read")
        return _native(np.asarray(self._array[index]))

    def release(self) -> None:
        """Let go of the pages read so far, which the kernel counts as this process's memory."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


def read_npz(file: str, name: str | None) -> Block:
    """Return one array of a .npz file, all of it: a compressed stream has no middle."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = {n.removesuffix(".npy"): n for n in archive.namelist() if n.endswith(".npy")}
            chosen = members[chosen_name(file, name, sorted(members))]
            where = f"{file}::{chosen.removesuffix('.npy')}"
            with archive.open(chosen) as f:
                shape, _, dtype = _header(f, where)
                size = archive.getinfo(chosen).file_size - f.tell()
                _must_be_complete(where, size, shape, dtype)
            with archive.open(chosen) as f:
                return _native(npy.read_array(f, allow_pickle=False))
    except BROKEN as error:
        raise FileProblem(f"{file}: broken .npz file: {one_line(error)}") from None
    except MemoryError:
        raise FileProblem(
            f"{file}: an array of a .npz file is read whole, and this one is larger than memory; "
            "store it as .npy"
        ) from None


def _header(f: IO[bytes], file: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of a .npy file, and refuse an array that holds anything but numbers."""
    try:
        version = npy.read_magic(f)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"format version {version[0]}.{version[1]} is not supported")
        old, at = version == (1, 0), f.tell()
        length = int.from_bytes(f.read(2 if old else 4), "little")
        if length > MAX_HEADER:  # NumPy refuses it too, but only after reading all of it
            raise ValueError(f"it is {length:,} bytes long")
        f.seek(at)
        read: Any = npy.read_array_header_1_0 if old else npy.read_array_header_2_0
        with warnings.catch_warnings(action="ignore"):  # of a header that Python 2 wrote
            shape, fortran, dtype = read(f)
        possible_shape(shape, dtype.itemsize)
    except (OSError, zipfile.BadZipFile, zlib.error):
        raise
    except Exception as error:  # NumPy parses the header as Python: TokenError, SyntaxError, ...
        raise FileProblem(f"{file}: broken .npy header: {one_line(error)}") from None
    if dtype.hasobject:
        raise FileProblem(f"{file}: holds Python objects, and files are never unpickled")
    if dtype.kind not in "fiub":
        raw = dtype.kind == "V" and dtype.names is None and dtype.subdtype is None
        hint = "; bfloat16 is kept by .safetensors, not by .npy" if raw else ""
        shown = shortened(str(dtype))
        raise FileProblem(f"{file}: has dtype {shown}, which is not supported{hint}")
    return shape, fortran, dtype


def possible_shape(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Return a shape that an array can have; ValueError says why another cannot be one."""
    if any(type(n) is not int or n < 0 for n in shape):
        raise ValueError(f"shape {shape}")
    if len(shape) > MAX_AXES:
        raise ValueError(f"{len(shape)} axes, and an array has at most {MAX_AXES}")
    if 0 in shape and prod(n for n in shape if n) * max(itemsize, 1) > sys.maxsize:
        raise ValueError(f"shape {shape}, and no array is so large")
    return shape


def _must_be_complete(file: str, size: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Refuse a file with less data than its header promises."""
    needed = prod(shape) * dtype.itemsize
    if size < needed:
        raise FileProblem(
            f"{file}: truncated: {size:,} of {needed:,} bytes of {dtype.name} data of shape {shape}"
        )


def _native(block: Block) -> Block:
    return block if block.dtype.isnative else block.astype(block.dtype.newbyteorder("="))
