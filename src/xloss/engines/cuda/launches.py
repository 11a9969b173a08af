"""The launches of one call, noted down so that they can be repeated for a call like it."""

from __future__ import annotations

from typing import Any, NamedTuple

from ...core.call import LossCall
from . import driver
from .call_arrays import CallArrays
from .kernel_variants import shared_room


class Launch(NamedTuple):
    """One launch, as `driver.launch` is given it."""

    kernel: Any
    grid: int
    threads: int
    packed: bytes
    second: int
    follows: bool


class Launches(CallArrays):
    """What one call has launched so far."""

    pixels_each = 0  # rows of a thread of pixels.cuh, if that kernel was launched
    uncounted = False  # blocks could not be counted, as in the capture of a graph

    def __init__(self, call: LossCall) -> None:
        super().__init__(call)
        self.launches: list[Launch] = []

    def launch(self, kernel: Any, grid: int, threads: int, packed: bytes, second: int) -> None:
        """Launch a kernel; it may begin before this call's launch before it has ended."""
        stream = self.stream
        # Not in the capture of a graph, of which older drivers refuse such a launch.
        follows = (
            bool(self.launches)
            and self.arrays.capability(self.index) >= 90
            and self.arrays.in_turn(self.index, stream)
        )
        driver.launch(kernel, self.index, grid, threads, stream, packed, second, follows=follows)
        self.launches.append(Launch(kernel, grid, threads, packed, second, follows))

    def shared_room(self) -> int:
        """Return where this stream's launches count blocks and leave losses; 0: nowhere."""
        found = shared_room(self.arrays, self.index, self.stream, self.cx)
        self.uncounted = self.uncounted or not found
        return found
