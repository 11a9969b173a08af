"""Arrays on a GPU, as the engines need to know them: device, address, strides, memory, stream."""

from __future__ import annotations

from functools import cache
from typing import Any

from .._arrays.inspect import Array


def storage_holds(a: Array, size: int) -> bool:
    """Tell whether a plain tensor's storage has so many bytes from its first element on.

    Fully sharded data parallelism frees the storage of a parameter, and leaves its shape.
    """
    held: int = a.untyped_storage().nbytes()
    before: int = a.storage_offset() * a.itemsize
    return held >= before + size


class _CuPyArrays:
    """What the engines ask of an array library about its arrays; a GPU is known by its index."""

    def __init__(self) -> None:
        import cupy

        self._cupy = cupy

    def index(self, a: Array) -> int:
        """Return the index of the GPU that an array is on."""
        return int(a.device.id)

    @cache  # noqa: B019  # one object lives as long as the process
    def capability(self, index: int) -> int:
        """Return a GPU's compute capability, 90 for 9.0."""
        return int(self._cupy.cuda.Device(index).compute_capability)

    def address(self, a: Array) -> int:
        """Return the address of the first element."""
        return int(a.data.ptr)

    def steps(self, a: Array) -> tuple[int, ...]:
        """Return the strides, in elements."""
        return tuple(s // a.itemsize for s in a.strides)

    def empty(self, shape: tuple[int, ...], dtype: Any, like: Array) -> Array:
        """Make an array in C order on the GPU of `like`, by the library's own allocator."""
        if like.device.id == self._cupy.cuda.runtime.getDevice():
            return self._cupy.empty(shape, dtype)
        with like.device:
            return self._cupy.empty(shape, dtype)

    def empty_like(self, a: Array) -> Array:
        """Make an array with the strides of `a`, or in C order where those leave gaps."""
        if a.device.id == self._cupy.cuda.runtime.getDevice():
            return self._cupy.empty_like(a)
        with a.device:
            return self._cupy.empty_like(a)

    def alike(self, a: Array) -> Array:
        """Make an array of the shape and dtype of `a`, which is in C order, in the least time."""
        return self.empty(a.shape, a.dtype, a)

    def holds(self, a: Array, size: int) -> bool:
        """Tell whether the memory behind the first element of a plain array has so many bytes."""
        return True

    def in_order(self, a: Array) -> Array:
        """Return the array in C order, a copy where it is not."""
        return self._cupy.ascontiguousarray(a)

    def stream(self, index: int) -> int:
        """Return the handle of the current stream on a GPU."""
        # CuPy's current stream belongs to the current device. On another device work goes to the
        # default stream.
        if index == self._cupy.cuda.runtime.getDevice():
            return int(self._cupy.cuda.get_current_stream().ptr)
        return 0

    def in_turn(self, index: int, stream: int) -> bool:
        """Tell whether launches on a stream run one after another, and none is being captured."""
        # Handle 2 names the calling thread's own default stream: two threads have two streams.
        runtime = self._cupy.cuda.runtime
        here = index == runtime.getDevice() and stream != 2
        return here and not runtime.streamIsCapturing(stream)


class _TorchArrays:
    """The same of PyTorch, by its own functions: a method around each would double its time."""

    def __init__(self) -> None:
        import torch

        self._torch = torch
        self.index = torch.Tensor.get_device
        self.address = torch.Tensor.data_ptr
        self.alike = self.empty_like = torch.empty_like
        self.holds = storage_holds
        self.in_order, self.steps = torch.Tensor.contiguous, torch.Tensor.stride
        self.stream = torch._C._cuda_getCurrentRawStream
        self._current = torch._C._cuda_getDevice
        self._capturing = torch._C._cuda_isCurrentStreamCapturing

    @cache  # noqa: B019  # one object lives as long as the process
    def capability(self, index: int) -> int:
        major, minor = self._torch.cuda.get_device_capability(index)
        return int(10 * major + minor)

    def empty(self, shape: tuple[int, ...], dtype: Any, like: Array) -> Array:
        return like.new_empty(shape, dtype=dtype)

    def in_turn(self, index: int, stream: int) -> bool:
        # PyTorch tells only of the current device's stream whether it is being captured.
        return index == self._current() and not self._capturing()


@cache
def of(library: str) -> Any:
    """Return what knows the arrays of a library, "torch" or "cupy"."""
    return _TorchArrays() if library == "torch" else _CuPyArrays()
