"""Arrays that NumPy reads: .npy files, mapped into memory, and .npz files; none is unpickled."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .file_problem import FileProblem, chosen_name
from .output import one_line

Block = npt.NDArray[Any]
Index = tuple[slice, ...]
# Before NumPy's own words, which are of its insides.
UNREADABLE = "cannot be read: broken, truncated, or of Python objects"


class HeldArray:
    """An array in memory, of a file that can only be read whole."""

    def __init__(self, array: Block) -> None:
        self._array = array
        self.shape, self.dtype = array.shape, array.dtype.name

    def read(self, index: Index) -> Block:
        """Return the part at these slices, one an axis."""
        block = np.asarray(self._array[index])
        return block.astype(block.dtype.newbyteorder("="), copy=False)


class NpyFile:
    """A .npy file: each part is mapped into memory when it is read, and let go of with the part.

    Otherwise the kernel would count all pages read so far as this process's memory.
    """

    def __init__(self, file: str) -> None:
        self._file = file
        whole = self._mapped()
        self.shape, self.dtype = whole.shape, whole.dtype

    def read(self, index: Index) -> Block:
        """Return the part at these slices, one an axis."""
        return self._mapped().read(index)

    def _mapped(self) -> HeldArray:
        try:
            # The size of an impossible shape overflows, which is only a warning otherwise.
            with np.errstate(over="raise"):
                return HeldArray(np.load(self._file, mmap_mode="r", allow_pickle=False))
        except Exception as error:  # NumPy parses the header as Python: whatever that may raise
            raise FileProblem(f"{self._file}: {UNREADABLE}: {one_line(error)}") from None


def read_npz(file: str, name: str | None) -> HeldArray:
    """Return one array of a .npz file, all of it: a compressed stream has no middle."""
    try:
        # NumPy leaves a broken file open that it opened by itself.
        with open(file, "rb") as f, np.load(f, allow_pickle=False) as archive:
            chosen = chosen_name(file, name, archive.files)
            return HeldArray(np.asarray(archive[chosen]))  # of a member that is no array, bytes
    except FileProblem:
        raise
    except Exception as error:  # of a broken archive, member, stream or header, or out of memory
        raise FileProblem(f"{file}: {UNREADABLE}: {one_line(error)}") from None
