"""Arrays on a GPU, as the engines need to know them: device, address, strides, memory, stream."""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol

from .._arrays.inspect import Array


class GpuArrays(Protocol):
    """What the engine asks of an array library; `index` numbers the GPU."""

    def index(self, a: Array) -> int:
        """Return the GPU that an array is on."""

    def capability(self, index: int) -> int:
        """Return 90 for compute capability 9.0."""

    def address(self, a: Array) -> int:
        """Return where its first element lies."""

    def steps(self, a: Array) -> tuple[int, ...]:
        """Return its strides, in elements."""

    def empty(self, shape: tuple[int, ...], dtype: Any, like: Array) -> Array:
        """Make an array in C order on another's GPU, in the library's own memory."""

    def empty_like(self, a: Array) -> Array:
        """Make an array with another's strides, where that leaves no gaps."""

    def in_order(self, a: Array) -> Array:
        """Return the array in C order."""

    def stream(self, index: int) -> int:
        """Return the current stream's handle."""

    def in_turn(self, index: int, stream: int) -> bool:
        """Tell whether launches on it are made now, and one after another."""


class _TorchArrays:
    def __init__(self) -> None:
        import torch

        self._torch = torch
        self.stream = torch._C._cuda_getCurrentRawStream
        self._current = torch._C._cuda_getDevice
        self._capturing = torch.cuda.is_current_stream_capturing

    def index(self, a: Array) -> int:
        return int(a.get_device())

    @cache  # noqa: B019  # one object lives as long as the process
    def capability(self, index: int) -> int:
        major, minor = self._torch.cuda.get_device_capability(index)
        return int(10 * major + minor)

    def address(self, a: Array) -> int:
        return int(a.data_ptr())

    def steps(self, a: Array) -> tuple[int, ...]:
        return tuple(a.stride())

    def empty(self, shape: tuple[int, ...], dtype: Any, like: Array) -> Array:
        return like.new_empty(shape, dtype=dtype)

    def empty_like(self, a: Array) -> Array:
        return self._torch.empty_like(a)

    def in_order(self, a: Array) -> Array:
        return a.contiguous()

    def in_turn(self, index: int, stream: int) -> bool:
        # Whether the current device's stream is captured is known, of no other.
        return index == self._current() and not self._capturing()


class _CuPyArrays:
    def __init__(self) -> None:
        import cupy

        self._cupy = cupy

    def index(self, a: Array) -> int:
        return int(a.device.id)

    @cache  # noqa: B019  # one object lives as long as the process
    def capability(self, index: int) -> int:
        return int(self._cupy.cuda.Device(index).compute_capability)

    def address(self, a: Array) -> int:
        return int(a.data.ptr)

    def steps(self, a: Array) -> tuple[int, ...]:
        return tuple(s // a.itemsize for s in a.strides)

    def empty(self, shape: tuple[int, ...], dtype: Any, like: Array) -> Array:
        if like.device.id == self._cupy.cuda.runtime.getDevice():
            return self._cupy.empty(shape, dtype)
        with like.device:
            return self._cupy.empty(shape, dtype)

    def empty_like(self, a: Array) -> Array:
        if a.device.id == self._cupy.cuda.runtime.getDevice():
            return self._cupy.empty_like(a)
        with a.device:
            return self._cupy.empty_like(a)

    def in_order(self, a: Array) -> Array:
        return self._cupy.ascontiguousarray(a)

    def stream(self, index: int) -> int:
        # The current stream is the current device's; another's work goes to its default stream.
        if index == self._cupy.cuda.runtime.getDevice():
            return int(self._cupy.cuda.get_current_stream().ptr)
        return 0

    def in_turn(self, index: int, stream: int) -> bool:
        # One handle, 2, names the default stream of whichever thread asks.
        runtime = self._cupy.cuda.runtime
        here = index == runtime.getDevice() and stream != 2
        return here and not runtime.streamIsCapturing(stream)


@cache
def of(library: str) -> GpuArrays:
    """Return what knows the arrays of a library."""
    return _TorchArrays() if library == "torch" else _CuPyArrays()
