"""NVIDIA's driver: whether kernels can run here, loading them, and launching them on a stream."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from itertools import product
from typing import Any

from .build import LEAST, architecture, compiled
from .launch_plan import Constants


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


def gpus() -> list[str]:
    """Return each GPU's name and compute capability, where kernels can run at all."""
    if missing() is not None:
        return []
    from cuda.core import Device

    said = "cuda:{} {}, compute capability {}.{}"
    devices = Device.get_all_devices()  # none gets a context by being asked
    return [said.format(d.device_id, d.name, *d.compute_capability) for d in devices]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


_kernels: dict[tuple[Constants, int], tuple[Any, Any]] = {}
_loading = threading.Lock()


def load(constants: Constants, capability: int, index: int, shared: int = 0) -> Any:
    """Return a kernel, compiled if need be, ready to launch on any GPU of that capability.

    shared: the bytes of shared memory that launches give it; more than 48 KB must be allowed.
    """
    with _loading:
        found = _kernels.get((constants, capability))
        if found is None:
            from cuda.core import ObjectCode

            made_for = architecture(capability)
            assert made_for is not None
            code = ObjectCode.from_cubin(compiled(constants, made_for))
            with _current(index):
                kernel = code.get_kernel("sums" if constants[0][0] == "SUMS" else "rows")
            if shared:
                _allow(int(kernel.handle), index, shared, dict(constants)["PARTS"])
            function = _bindings().CUfunction(int(kernel.handle))
            found = _kernels[constants, capability] = (function, shared), kernel
    return found[0]


def _allow(handle: int, index: int, shared: int, cluster: int) -> None:
    """Allow a kernel what not every GPU can give it: much shared memory, and large clusters."""
    driver = _bindings()
    known = driver.CUfunction_attribute
    wanted = {known.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: shared}
    if cluster > 8:
        wanted[known.CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED] = 1
    count = driver.cuDeviceGetCount()[1]
    for (attribute, value), device in product(wanted.items(), range(count)):
        (failed,) = driver.cuKernelSetAttribute(attribute, value, driver.CUkernel(handle), device)
        if int(failed) and device == index:
            raise RuntimeError(f"CUDA refused {attribute.name}: {failed.name}")


@contextmanager
def _current(index: int) -> Iterator[None]:
    """Make a GPU the current one inside a block; the array library's current one is restored."""
    from cuda.core import Device

    before = Device()
    Device(index).set_current()
    try:
        yield
    finally:
        if before.device_id != index:
            before.set_current()


class _Parameters(threading.local):
    """Memory for the parameters of a launch, one for each thread; the driver copies them."""

    def __init__(self) -> None:
        room = ctypes.create_string_buffer(1024)
        self.pointer = ctypes.c_void_p(ctypes.addressof(room))
        # Read at once: to look up what is a thread's own takes a part of a launch's time.
        self.all = memoryview(room).cast("B"), ctypes.addressof(self.pointer)


_parameters = _Parameters()


@cache
def _bindings() -> Any:
    from cuda.bindings import driver

    return driver


@cache
def _following() -> Any:
    """Return what says that a launch may begin before the one before it has ended."""
    driver = _bindings()
    attribute = driver.CUlaunchAttribute()
    attribute.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
    attribute.value.programmaticStreamSerializationAllowed = 1
    return attribute


@lru_cache(maxsize=4096)
def _form(grid: int, threads: int, shared: int, stream: int, follows: bool) -> Any:
    """Return the form of a launch; no one changes it, so that threads may share it.

    To make one takes about as long as all else that the host does for a launch.
    """
    form = _bindings().CUlaunchConfig()
    form.gridDimX, form.blockDimX, form.sharedMemBytes = grid, threads, shared
    form.gridDimY = form.gridDimZ = form.blockDimY = form.blockDimZ = 1
    form.hStream = stream
    if follows:
        form.attrs, form.numAttrs = [_following()], 1
    return form


def launch(
    kernel: Any,
    index: int,
    grid: int,
    threads: int,
    stream: int,
    packed: bytes,
    *,
    follows: bool = False,
) -> None:
    """Launch a kernel; `packed`: its parameter, a structure by value.

    follows: the launch before it in the stream is of the same call, and this one may begin before
    that one has ended: kernels wait themselves.
    """
    driver = _bindings()
    view, at = _parameters.all
    view[: len(packed)] = packed
    function, shared = kernel
    given = _form(grid, threads, shared, stream, follows), function, at, 0
    # Handle 0 is the default stream of whichever GPU is current: with another GPU current, that one
    # would get the launch.
    unknown, current = driver.cuCtxGetDevice()
    failed = int(unknown) or int(current) != index or int(driver.cuLaunchKernelEx(*given)[0])
    if failed:
        # This thread has not used any GPU yet, or last used another one.
        with _current(index):
            failed = int(driver.cuLaunchKernelEx(*given)[0])
    if failed:
        error = driver.cuGetErrorString(driver.CUresult(failed))[1].decode()
        raise RuntimeError(f"CUDA refused a launch: {error}")
