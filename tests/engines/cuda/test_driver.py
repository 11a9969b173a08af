"""Launches go to the GPU that the arrays are on; the driver is played."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import pytest

from xloss.engines.cuda import driver
from xloss.engines.cuda.launch_plan import sums


class Played:
    """A driver with two GPUs, which launches wherever it happens to be."""

    def __init__(self, current: int | None) -> None:
        self.current, self.launched = current, []

    def get(self) -> tuple[int, int]:
        return (201, 0) if self.current is None else (0, self.current)

    def launch(self, *given: Any) -> tuple[int]:
        self.launched.append(self.current)
        return (201,) if self.current is None else (0,)


@pytest.fixture
def bindings(monkeypatch: pytest.MonkeyPatch) -> Any:
    """NVIDIA's driver, as far as a launch needs it: GPU 0 is current, and takes everything."""
    found = pytest.importorskip("cuda.bindings.driver", reason="pip install 'xloss[cuda]'")
    monkeypatch.setattr(found, "cuCtxGetDevice", lambda: (0, 0))
    monkeypatch.setattr(found, "cuLaunchKernel", lambda *given: (0,))
    return found


def test_a_launch_that_is_refused_is_an_error(
    bindings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = pytest.importorskip("cuda.core", reason="pip install 'xloss[cuda]'")

    class Device:
        device_id = 0

        def __init__(self, index: int = 0) -> None: ...

        def set_current(self) -> None: ...

    monkeypatch.setattr(core, "Device", Device)
    monkeypatch.setattr(bindings, "cuLaunchKernel", lambda *given: (1,))
    monkeypatch.setattr(bindings, "cuGetErrorString", lambda error: (0, b"number %d" % error))
    with pytest.raises(RuntimeError, match="CUDA refused a launch: number 1"):
        driver.launch((None, 0), 0, 1, 32, 0, b"12345678")


def test_parameters_reach_the_kernel_whole(bindings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def launch(*given: Any) -> tuple[int]:
        pointers = (ctypes.c_void_p * 2).from_address(given[9])
        seen.append([ctypes.string_at(pointers[i], n) for i, n in enumerate((5, 3))])
        seen.append((*given[:9], given[10]))
        return (0,)

    monkeypatch.setattr(bindings, "cuLaunchKernel", launch)
    driver.launch(("kernel", 4096), 0, 7, 96, 11, b"firsttwo", 5)
    assert seen == [[b"first", b"two"], ("kernel", 7, 1, 1, 96, 1, 1, 4096, 11, 0)]


def test_a_kernel_is_loaded_once_and_the_current_gpu_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bindings = pytest.importorskip("cuda.bindings.driver", reason="pip install 'xloss[cuda]'")
    core = pytest.importorskip("cuda.core", reason="pip install 'xloss[cuda]'")
    played, loaded = Played(0), []

    class Device:
        def __init__(self, index: int | None = None) -> None:
            self.device_id = (played.current or 0) if index is None else index

        def set_current(self) -> None:
            played.current = self.device_id

    class Code:
        @staticmethod
        def from_cubin(code: bytes) -> Code:
            return Code()

        def get_kernel(self, name: str) -> Any:
            loaded.append((name, played.current))
            return SimpleNamespace(handle=7)

    monkeypatch.setattr(core, "Device", Device)
    monkeypatch.setattr(core, "ObjectCode", Code)
    monkeypatch.setattr(driver, "_kernels", {})
    monkeypatch.setattr(driver, "architecture", lambda capability: f"sm_{capability}")
    monkeypatch.setattr(driver, "compiled", lambda constants, made_for: made_for.encode())
    made = [driver.load(sums("float32"), 90, 1) for _ in range(2)]
    assert made[0] is made[1]
    function, shared = made[0]
    assert (isinstance(function, bindings.CUfunction), shared) == (True, 0)
    assert loaded == [("sums", 1)]
    assert played.current == 0


@pytest.mark.parametrize("current", [0, 1, None])
def test_a_launch_goes_to_the_arrays_gpu(
    current: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    bindings = pytest.importorskip("cuda.bindings.driver", reason="pip install 'xloss[cuda]'")
    core = pytest.importorskip("cuda.core", reason="pip install 'xloss[cuda]'")
    played = Played(current)

    class Device:
        def __init__(self, index: int | None = None) -> None:
            self.device_id = (played.current or 0) if index is None else index

        def set_current(self) -> None:
            played.current = self.device_id

    monkeypatch.setattr(core, "Device", Device)
    monkeypatch.setattr(bindings, "cuCtxGetDevice", played.get)
    monkeypatch.setattr(bindings, "cuLaunchKernel", played.launch)
    driver.launch((0, 0), 1, 1, 128, 0, b"12345678")
    assert played.launched == [1]
    assert played.current == (current or 0)  # as it was


def test_a_launch_that_follows_says_so(bindings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was launched before it, in this form or in another."""
    seen: list[Any] = []

    def launch(form: Any, function: Any, parameters: int, extra: int) -> tuple[int]:
        pointers = (ctypes.c_void_p * 2).from_address(parameters)
        seen.append([ctypes.string_at(pointers[i], n) for i, n in enumerate((5, 3))])
        seen.append((function, extra, form.sharedMemBytes, int(form.hStream)))
        seen.append((form.gridDimX, form.gridDimY, form.gridDimZ))
        seen.append((form.blockDimX, form.blockDimY, form.blockDimZ))
        (attribute,) = form.attrs
        serial = bindings.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
        assert (form.numAttrs, attribute.id) == (1, serial)
        assert attribute.value.programmaticStreamSerializationAllowed == 1
        return (0,)

    monkeypatch.setattr(bindings, "cuLaunchKernelEx", launch)
    forms = [(7, 96, 4096, 11), (8, 96, 4096, 11), (7, 64, 4096, 11), (7, 96, 0, 11)]
    forms += [(7, 96, 4096, 12), *(forms[0] for _ in range(2))]
    for grid, threads, shared, stream in forms:
        driver.launch(("kernel", shared), 0, grid, threads, stream, b"firsttwo", 5, follows=True)
        assert seen == [
            [b"first", b"two"],
            ("kernel", 0, shared, stream),
            (grid, 1, 1),
            (threads, 1, 1),
        ]
        seen.clear()


def test_the_form_of_a_launch_that_follows_is_made_once(
    bindings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, make, made = [], bindings.CUlaunchConfig, []

    def counted() -> Any:
        made.append(make())
        return made[-1]

    def launch(form: Any, *_: Any) -> tuple[int]:
        seen.append(form)
        return (0,)

    driver._form.cache_clear()
    monkeypatch.setattr(bindings, "CUlaunchConfig", counted)
    monkeypatch.setattr(bindings, "cuLaunchKernelEx", launch)
    for stream in (3, 4, 3, 4, 3):
        driver.launch(("kernel", 0), 0, 7, 96, stream, b"12345678", follows=True)
    assert len(made) == 2
    assert [made.index(form) for form in seen] == [0, 1, 0, 1, 0]
    for grid in range(1, 1000):  # shapes that never repeat do not fill the memory
        driver.launch(("kernel", 0), 0, grid, 96, 3, b"12345678", follows=True)
    assert driver._form.cache_info().currsize <= 256
    driver._form.cache_clear()
