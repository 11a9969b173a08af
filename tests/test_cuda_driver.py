"""Launches go to the GPU that the arrays are on; the driver is played."""

from __future__ import annotations

from typing import Any

import pytest

from xloss.engines.device import driver


class Played:
    """A driver with two GPUs, which launches wherever it happens to be."""

    def __init__(self, current: int | None) -> None:
        self.current, self.launched = current, []

    def get(self) -> tuple[int, int]:
        return (201, 0) if self.current is None else (0, self.current)

    def launch(self, *given: Any) -> tuple[int]:
        self.launched.append(self.current)
        return (201,) if self.current is None else (0,)


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
    driver.launch(0, 1, 1, 128, 0, b"12345678")
    assert played.launched == [1]
    assert played.current == (current or 0)  # as it was
