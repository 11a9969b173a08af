"""Arrays in files, read block by block: .npy, .npz and .safetensors. Nothing is ever unpickled."""

from __future__ import annotations

import mmap
import os
import stat
import sys
import warnings
import zipfile
import zlib
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from .output import Failure, one_line, visible

__all__ = ["FileProblem", "Source", "open_array"]

Block = npt.NDArray[Any]
Index = tuple[slice, ...]

MAGIC = {b"\x93NUMPY": ".npy", b"PK\x03\x04": ".npz", b"PK\x05\x06": ".npz"}
SAFE_DTYPES = {
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


NO_FILES = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
AXES = 64  # of NumPy's arrays
HEADER = 10_000  # bytes: NumPy parses no longer header of a .npy file
NAME = 60  # characters of an array's name that a message lists


class FileProblem(Failure):
    """A file that cannot be read as asked; the message is one line and begins with its name."""


class Source(Protocol):
    """An array in a file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape."""

    @property
    def dtype(self) -> str:
        """The array's dtype, by name."""

    def read(self, index: Index) -> Block:
        """Return the part at these slices, one an axis, each with a start and a stop."""

    def release(self) -> None:
        """Give back the memory that what was read so far took in this process."""


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
    kind = Path(file).suffix.lower()
    if not file:
        raise FileProblem(f"{where!r}: expected the name of a file")
    try:
        must_be_a_file(file)
        with open(file, "rb") as f:
            start = f.read(6)
        if not start:
            raise FileProblem(f"{file}: is empty")
        if kind not in (".npy", ".npz", ".safetensors"):
            raise FileProblem(f"{file}: expected a .npy, .npz or .safetensors file")
        found = next((k for magic, k in MAGIC.items() if start.startswith(magic)), None)
        if kind == ".safetensors":
            if found:
                raise FileProblem(f"{file}: is a {found} file, not a .safetensors file")
            return _Safetensors(file, name)
        if found != kind:
            raise FileProblem(f"{file}: is {f'a {found}' if found else 'no .npy or .npz'} file")
        if kind == ".npz":
            return _npz(file, name)
        if name is not None:
            raise FileProblem(f"{file}: a .npy file holds one array, which has no name: {name!r}")
        return _Npy(file)
    except OSError as error:
        raise FileProblem(f"{file}: {error.strerror or error}") from None


def must_be_a_file(file: str) -> None:
    """Refuse what would be waited for, or has no end: a FIFO, a socket, a device."""
    found = NO_FILES.get(stat.S_IFMT(os.stat(file).st_mode))
    if found is not None:
        raise FileProblem(f"{file}: is {found}, not a file")


class _Npy:
    """A .npy file, mapped into memory: only what is read takes any."""

    def __init__(self, file: str) -> None:
        with open(file, "rb") as f:
            shape, fortran, dtype = _header(f, file)
            begin = f.tell()
            f.seek(0, 2)
            _complete(file, f.tell() - begin, shape, dtype)
            self._map = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
        order: Any = "F" if fortran else "C"
        self._array: Block = np.ndarray(shape, dtype, self._map, begin, order=order)
        self._file = file
        self.shape, self.dtype = shape, dtype.name

    def read(self, index: Index) -> Block:
        if self._map.size() < len(self._map):  # reading beyond its end would kill the process
            raise FileProblem(f"{self._file}: has become shorter while it was read")
        return _native(np.asarray(self._array[index]))

    def release(self) -> None:
        # Pages of a file that were read stay counted as this process's until they are let go.
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


class _Whole:
    """An array that had to be read whole."""

    def __init__(self, array: Block) -> None:
        self._array = array
        self.shape, self.dtype = array.shape, array.dtype.name

    def read(self, index: Index) -> Block:
        return _native(np.asarray(self._array[index]))

    def release(self) -> None:
        return None


class _Safetensors:
    """One tensor of a .safetensors file, of which slices are read."""

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
            self._name = _chosen(file, name, self._handle.keys())
            part = self._handle.get_slice(self._name)
            self.shape = _possible(tuple(part.get_shape()), 8)
        except (safetensors.SafetensorError, ValueError) as error:
            raise FileProblem(f"{file}: broken .safetensors file: {one_line(error)}") from None
        stored = str(part.get_dtype())
        if stored not in SAFE_DTYPES:
            raise FileProblem(f"{file}: {self._name} has dtype {stored}, which is not supported")
        self.dtype = SAFE_DTYPES[stored]

    def read(self, index: Index) -> Block:
        size = tuple(s.stop - s.start for s in index)
        if 0 in size:  # the library refuses an empty slice
            return np.empty(size, self.dtype)
        import safetensors

        handle = self._handle
        try:
            block: Block = (
                handle.get_slice(self._name)[index] if index else handle.get_tensor(self._name)
            )
        except safetensors.SafetensorError as error:
            raise FileProblem(f"{self._file}: cannot be read: {one_line(error)}") from None
        return block

    def release(self) -> None:
        # The library maps the file; a new map has nothing in memory yet.
        self._handle = self._open(self._file, framework="numpy")


def _npz(file: str, name: str | None) -> _Whole:
    """Read one member of a .npz file."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = {n.removesuffix(".npy"): n for n in archive.namelist() if n.endswith(".npy")}
            chosen = members[_chosen(file, name, members)]
            where = f"{file}::{chosen.removesuffix('.npy')}"
            with archive.open(chosen) as f:
                shape, _, dtype = _header(f, where)
                _complete(where, archive.getinfo(chosen).file_size - f.tell(), shape, dtype)
            with archive.open(chosen) as f:
                return _Whole(npy.read_array(f, allow_pickle=False))
    except (
        zipfile.BadZipFile,
        zlib.error,
        ValueError,
        EOFError,
        RuntimeError,
        NotImplementedError,
    ) as error:
        raise FileProblem(f"{file}: broken .npz file: {one_line(error)}") from None
    except MemoryError:
        raise FileProblem(
            f"{file}: an array of a .npz file is read whole, and this one is larger than memory; "
            "store it as .npy"
        ) from None


def _header(f: IO[bytes], file: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of a .npy file, and refuse what is no array of numbers."""
    try:
        version = npy.read_magic(f)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"format version {version[0]}.{version[1]} is not supported")
        old, at = version == (1, 0), f.tell()
        length = int.from_bytes(f.read(2 if old else 4), "little")
        if length > HEADER:  # NumPy refuses it too, but once it has read it all
            raise ValueError(f"it is {length:,} bytes long")
        f.seek(at)
        read: Any = npy.read_array_header_1_0 if old else npy.read_array_header_2_0
        with warnings.catch_warnings(action="ignore"):  # a header as Python 2 wrote it is fine
            shape, fortran, dtype = read(f)
        _possible(shape, dtype.itemsize)
    except (OSError, zipfile.BadZipFile, zlib.error):
        raise
    except Exception as error:  # NumPy parses the header as Python: TokenError, SyntaxError, ...
        raise FileProblem(f"{file}: broken .npy header: {one_line(error)}") from None
    if dtype.hasobject:
        raise FileProblem(f"{file}: holds Python objects, and files are never unpickled")
    if dtype.kind not in "fiub":
        raw = dtype.kind == "V" and dtype.names is None and dtype.subdtype is None
        hint = "; bfloat16 is kept by .safetensors, not by .npy" if raw else ""
        raise FileProblem(f"{file}: has dtype {_cut(str(dtype))}, which is not supported{hint}")
    return shape, fortran, dtype


def _possible(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Return a shape that an array may have; ValueError says why it is none."""
    if any(type(n) is not int or n < 0 for n in shape):
        raise ValueError(f"shape {shape}")
    if len(shape) > AXES:
        raise ValueError(f"{len(shape)} axes, and an array has at most {AXES}")
    if 0 in shape and prod(n for n in shape if n) * max(itemsize, 1) > sys.maxsize:
        raise ValueError(f"shape {shape}, and no array is so large")
    return shape


def _complete(file: str, size: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Refuse a file that has less data than its header says."""
    needed = prod(shape) * dtype.itemsize
    if size < needed:
        raise FileProblem(
            f"{file}: truncated: {size:,} of {needed:,} bytes of {dtype.name} data of shape {shape}"
        )


def _cut(name: str) -> str:
    name = visible(name)
    return name if len(name) <= NAME else f"{name[: NAME - 3]}..."


def _chosen(file: str, name: str | None, names: Iterable[str]) -> str:
    """Return the name that was asked for, or that of the only array."""
    names = sorted(names)
    if not names:
        raise FileProblem(f"{file}: holds no array")
    listed = ", ".join(map(_cut, names[:8])) + (", ..." if len(names) > 8 else "")
    if name is None:
        if len(names) > 1:
            raise FileProblem(
                f"{file}: holds {len(names)} arrays, say which: {file}::NAME ({listed})"
            )
        return names[0]
    if name not in names:
        raise FileProblem(f"{file}: holds no array {name!r}, but {listed}")
    return name


def _native(block: Block) -> Block:
    return block if block.dtype.isnative else block.astype(block.dtype.newbyteorder("="))
