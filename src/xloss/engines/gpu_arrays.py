"""What an engine needs to know of arrays on a GPU: device, address, strides, memory, stream."""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol

from .._arrays.inspect import Array


class GpuArrays(Protocol):
    """One array library's answers; `index` is the number of a GPU."""

    def index(self, a: Array) -> int:
        """Return the number of the GPU that an array is on."""

    def capability(self, index: int) -> int:
        """Return the compute capability as one number: 90 for 9.0."""

    def address(self, a: Array) -> int:
        """Return the address of its first element."""

    def steps(self, a: Array) -> tuple[int, ...]:
        """Return its strides, in elements."""

    def empty(self, shape: tuple[int, ...], dtype: Any, like: Array) -> Array:
        """Make an array in C order on the GPU of `like`, by the library's own allocator."""

    def empty_like(self, a: Array) -> Array:
        """Make an array with another's strides, or with dense ones where those leave gaps."""

    def in_order(self, a: Array) -> Array:
        """Return the array in C order."""

    def stream(self, index: int) -> int:
        """Return the handle of the current stream."""

    def in_turn(self, index: int, stream: int) -> bool:
        """Return whether launches on a stream run at once, and one after another.

        A stream that is captured into a graph runs them later, perhaps several times.
        """


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
        # torch tells of the current device's stream alone whether it is captured.
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
        # The current stream belongs to the current device. Another device gets its default stream.
        if index == self._cupy.cuda.runtime.getDevice():
            return int(self._cupy.cuda.get_current_stream().ptr)
        return 0

    def in_turn(self, index: int, stream: int) -> bool:
        # Handle 2 stands for a different stream in each thread: the default one of the caller's.
        runtime = self._cupy.cuda.runtime
        here = index == runtime.getDevice() and stream != 2
        return here and not runtime.streamIsCapturing(stream)


@cache
def of(library: str) -> GpuArrays:
    """Return the answers of a library, "torch" or "cupy"."""
    return _TorchArrays() if library == "torch" else _CuPyArrays()
