"""Launches go to the GPU that the arrays are on; the driver is played."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import pytest

from xloss.engines.cuda import driver
from xloss.engines.cuda.launch_plan import sums


class Played:
    """A driver with two GPUs, which launches wherever it happens to be, and notes what it is given.

    current: the GPU in use; None: this thread has used none yet. answer: what a launch returns.
    """

    def __init__(self, bindings: Any) -> None:
        self.bindings = bindings
        self.current: int | None = 0
        self.answer = 0
        self.launched: list[Any] = []

    def get(self) -> tuple[int, int]:
        return (201, 0) if self.current is None else (0, self.current)

    def launch(self, *given: Any) -> tuple[int]:
        at = given[9] if len(given) == 11 else given[2]
        pointers = (ctypes.c_void_p * 2).from_address(at)
        structures = [ctypes.string_at(pointers[i], n) for i, n in enumerate((5, 3))]
        self.launched.append((self.current, structures, given))
        return (201 if self.current is None else self.answer,)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    bindings = pytest.importorskip("cuda.bindings.driver", reason="pip install 'xloss[cuda]'")
    core = pytest.importorskip("cuda.core", reason="pip install 'xloss[cuda]'")
    made = Played(bindings)

    class Device:
        def __init__(self, index: int | None = None) -> None:
            self.device_id = (made.current or 0) if index is None else index

        def set_current(self) -> None:
            made.current = self.device_id

    monkeypatch.setattr(core, "Device", Device)
    monkeypatch.setattr(bindings, "cuCtxGetDevice", made.get)
    monkeypatch.setattr(bindings, "cuLaunchKernel", made.launch)
    monkeypatch.setattr(bindings, "cuLaunchKernelEx", made.launch)
    return made


def test_a_launch_that_is_refused_is_an_error(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    played.answer = 1
    monkeypatch.setattr(played.bindings, "cuGetErrorString", lambda e: (0, b"number %d" % e))
    with pytest.raises(RuntimeError, match="CUDA refused a launch: number 1"):
        driver.launch((None, 0), 0, 1, 32, 0, b"12345678")


def test_parameters_reach_the_kernel_whole(played: Played) -> None:
    driver.launch(("kernel", 4096), 0, 7, 96, 11, b"firsttwo", 5)
    ((_, structures, given),) = played.launched
    assert structures == [b"first", b"two"]
    assert (*given[:9], given[10]) == ("kernel", 7, 1, 1, 96, 1, 1, 4096, 11, 0)


def test_a_kernel_is_loaded_once_and_the_current_gpu_stays(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []

    def get_kernel(name: str) -> Any:
        loaded.append((name, played.current))
        return SimpleNamespace(handle=7)

    code = SimpleNamespace(from_cubin=lambda code: SimpleNamespace(get_kernel=get_kernel))
    monkeypatch.setattr("cuda.core.ObjectCode", code)
    monkeypatch.setattr(driver, "_kernels", {})
    monkeypatch.setattr(driver, "architecture", lambda capability: f"sm_{capability}")
    monkeypatch.setattr(driver, "compiled", lambda constants, made_for: made_for.encode())
    made = [driver.load(sums("float32"), 90, 1) for _ in range(2)]
    assert made[0] is made[1]
    function, shared = made[0]
    assert (isinstance(function, played.bindings.CUfunction), shared) == (True, 0)
    assert loaded == [("sums", 1)]
    assert played.current == 0


@pytest.mark.parametrize("current", [0, 1, None])
def test_a_launch_goes_to_the_arrays_gpu(current: int | None, played: Played) -> None:
    played.current = current
    driver.launch((0, 0), 1, 1, 128, 0, b"12345678")
    assert played.launched[-1][0] == 1
    assert played.current == (current or 0)  # as it was


def test_a_launch_that_follows_says_so(played: Played) -> None:
    """Whatever was launched before it, in this form or in another; each form is made once."""
    forms = [(7, 96, 4096, 11), (8, 96, 4096, 11), (7, 64, 4096, 11), (7, 96, 0, 11)]
    forms += [(7, 96, 4096, 12), *(forms[0] for _ in range(2))]
    for grid, threads, shared, stream in forms:
        driver.launch(("kernel", shared), 0, grid, threads, stream, b"firsttwo", 5, follows=True)
        _, structures, (form, function, _, extra) = played.launched[-1]
        assert structures == [b"first", b"two"]
        assert (function, extra) == ("kernel", 0)
        assert (form.sharedMemBytes, int(form.hStream)) == (shared, stream)
        assert (form.gridDimX, form.gridDimY, form.gridDimZ) == (grid, 1, 1)
        assert (form.blockDimX, form.blockDimY, form.blockDimZ) == (threads, 1, 1)
        (attribute,) = form.attrs
        ids = played.bindings.CUlaunchAttributeID
        assert form.numAttrs == 1
        assert attribute.id == ids.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
        assert attribute.value.programmaticStreamSerializationAllowed == 1
    assert len({id(given[0]) for _, _, given in played.launched}) == len(set(forms))
