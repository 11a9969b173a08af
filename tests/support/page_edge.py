"""Arrays at the edge of memory that may be read: one byte further, and the process ends."""

from __future__ import annotations

import ctypes
import mmap
import sys

import numpy as np

PROT_NONE = 0


def at_page_edge(a: np.ndarray, begins: bool = False) -> np.ndarray:
    """Return the same values in C order, ending where a page ends that is followed by no memory.

    begins: the array begins instead where a page begins, behind no memory. Elsewhere than on Linux
    the array is returned as it is.
    """
    if sys.platform != "linux" or a.dtype.hasobject or not a.nbytes:
        return a
    page = mmap.PAGESIZE
    room = -(-a.nbytes // page) * page
    memory = mmap.mmap(-1, room + page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    forbidden = address if begins else address + room
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(forbidden), ctypes.c_size_t(page), PROT_NONE) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")
    start = page if begins else room - a.nbytes
    made = np.frombuffer(memory, a.dtype, a.size, start).reshape(a.shape)
    made[...] = a
    return made
