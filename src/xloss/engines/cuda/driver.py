"""Arrays of a GPU as addresses, and launches on the stream of the library that made them."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import product
from typing import Any, Protocol

from ..._arrays.inspect import Array
from .build import LEAST, architecture, compiled
from .launch_plan import Constants


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


class _Torch:
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


class _CuPy:
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
def home(library: str) -> GpuArrays:
    """Return what knows the arrays of a library."""
    return _Torch() if library == "torch" else _CuPy()


def missing() -> str | None:
    """Say why no kernel can run on this machine, or None."""
    try:
        from cuda.bindings import driver, nvrtc
        from cuda.core import ObjectCode, Program  # noqa: F401
    except ImportError:
        return 'cuda-core is not installed: pip install "xloss[cuda]"'
    except Exception as error:  # versions of NVIDIA's packages that do not fit
        return f"cuda-core cannot be imported: {error}"
    try:
        nvrtc.nvrtcVersion()
    except Exception as error:
        return f"NVIDIA's run-time compiler cannot be loaded: {_first_line(error)}"
    try:
        refused = int(driver.cuInit(0)[0])
        count = 0 if refused else driver.cuDeviceGetCount()[1]
    except Exception:  # the library of the driver cannot be found
        return "there is no GPU, or no driver for it: none of NVIDIA's is found"
    return None if count else "no GPU is found"


@cache
def unfit(capability: int) -> str | None:
    """Say why no kernel can be compiled for a GPU, or None."""
    if architecture(capability) is not None:
        return None
    said = f"compute capability {capability // 10}.{capability % 10}"
    if capability < LEAST:
        return f"this GPU has {said}, which is below {LEAST // 10}.{LEAST % 10}"
    return f"NVIDIA's run-time compiler does not know {said}: a newer nvidia-cuda-nvrtc may"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


_kernels: dict[tuple[Constants, int], tuple[Any, Any]] = {}
_loading = threading.Lock()


def load(constants: Constants, capability: int, index: int, shared: int = 0) -> Any:
    """Return a kernel, compiled if need be, ready to launch on any GPU of that capability.

    shared: the bytes of shared memory that launches give it; more than 48 KB must be allowed.
    """
    found = _kernels.get((constants, capability))
    if found is None:
        from cuda.bindings import driver
        from cuda.core import ObjectCode

        with _loading:
            found = _kernels.get((constants, capability))
            if found is None:
                made_for = architecture(capability)
                assert made_for is not None
                code = ObjectCode.from_cubin(compiled(constants, made_for))
                name = "sums" if constants[0][0] == "SUMS" else "rows"
                with _current(index):
                    kernel = code.get_kernel(name)
                function = driver.CUfunction(int(kernel.handle))
                if shared:
                    known = driver.CUfunction_attribute
                    wanted = {known.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: shared}
                    if dict(constants)["PARTS"] > 8:
                        wanted[known.CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED] = 1
                    for (attribute, value), device in product(wanted.items(), range(_count())):
                        (failed,) = driver.cuKernelSetAttribute(
                            attribute, value, driver.CUkernel(int(kernel.handle)), device
                        )
                        if int(failed) and device == index:
                            raise RuntimeError(f"CUDA refused {attribute.name}: {failed.name}")
                found = (function, shared), kernel
                _kernels[constants, capability] = found
    return found[0]


@cache
def _count() -> int:
    from cuda.bindings import driver

    return int(driver.cuDeviceGetCount()[1])


@contextmanager
def _current(index: int) -> Iterator[None]:
    """Have a GPU current inside a block: the array library's own current one must stay."""
    from cuda.core import Device

    before = Device()
    Device(index).set_current()
    try:
        yield
    finally:
        if before.device_id != index:
            before.set_current()


class _Parameters(threading.local):
    """Room for the parameters of a launch, which copies them."""

    def __init__(self) -> None:
        self.room = ctypes.create_string_buffer(1024)
        self.view = memoryview(self.room).cast("B")
        self.start = ctypes.addressof(self.room)
        self.pointers = (ctypes.c_void_p * 2)(self.start)
        self.at = ctypes.addressof(self.pointers)


_parameters = _Parameters()


@cache
def _bindings() -> Any:
    from cuda.bindings import driver

    return driver


def launch(
    kernel: Any, index: int, grid: int, threads: int, stream: int, packed: bytes, second: int = 0
) -> None:
    """Launch a kernel; `packed`: its parameter, a structure by value, or two.

    second: where the second begins.
    """
    driver = _bindings()
    p = _parameters
    p.view[: len(packed)] = packed
    p.pointers[1] = p.start + second
    function, shared = kernel
    given = (function, grid, 1, 1, threads, 1, 1, shared, stream, p.at, 0)
    # A default stream is 0 on every GPU: where another is current, it would take the launch.
    unknown, current = driver.cuCtxGetDevice()
    failed = int(unknown) or int(current) != index
    if not failed:
        (failed,) = driver.cuLaunchKernel(*given)
    if int(failed):
        # A thread that has done nothing on this GPU, or something on another.
        with _current(index):
            (failed,) = driver.cuLaunchKernel(*given)
    if int(failed):
        raise RuntimeError(f"CUDA refused a launch: {driver.cuGetErrorString(failed)[1].decode()}")
