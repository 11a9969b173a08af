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
        structure = ctypes.string_at(ctypes.c_void_p.from_address(given[2]).value, 8)
        self.launched.append((self.current, structure, given))
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
    monkeypatch.setattr(bindings, "cuLaunchKernelEx", made.launch)
    return made


def test_a_launch_that_is_refused_is_an_error(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    played.answer = 1
    monkeypatch.setattr(played.bindings, "cuGetErrorString", lambda e: (0, b"number %d" % e))
    with pytest.raises(RuntimeError, match="CUDA refused a launch: number 1"):
        driver.launch((None, 0), 0, 1, 32, 0, b"12345678")


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
    made = [driver.load(sums("float32", 3, False), 90, 1) for _ in range(2)]
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


def test_parameters_and_form_reach_the_kernel_whole(played: Played) -> None:
    """Whatever was launched before it, in this form or in another; each form is made once."""
    forms = [(7, 96, 4096, 11, True), (8, 96, 4096, 11, True), (7, 64, 4096, 11, True)]
    forms += [(7, 96, 0, 11, True), (7, 96, 4096, 12, True), (7, 96, 4096, 11, False), forms[0]]
    for grid, threads, shared, stream, follows in forms:
        driver.launch(("kernel", shared), 0, grid, threads, stream, b"together", follows=follows)
        _, structure, (form, function, _, extra) = played.launched[-1]
        assert (structure, function, extra) == (b"together", "kernel", 0)
        assert (form.sharedMemBytes, int(form.hStream)) == (shared, stream)
        assert (form.gridDimX, form.gridDimY, form.gridDimZ) == (grid, 1, 1)
        assert (form.blockDimX, form.blockDimY, form.blockDimZ) == (threads, 1, 1)
        assert form.numAttrs == len(form.attrs) == follows
        if follows:
            (attribute,) = form.attrs
            ids = played.bindings.CUlaunchAttributeID
            assert attribute.id == ids.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
            assert attribute.value.programmaticStreamSerializationAllowed == 1
    assert len({id(given[0]) for _, _, given in played.launched}) == len(set(forms))
