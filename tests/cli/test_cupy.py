"""xloss eval --backend cupy, without a GPU: what comes back to the host, and how much of it."""

import numpy as np
import pytest

import xloss
from xloss.cli import array_libraries, run_task

pytest.importorskip("cupy", reason="CuPy has wheels for Linux and Windows only")

from standin import DeviceArray, transfers

ROWS, CLASSES = 40, 5
BLOCK = 8  # rows


@pytest.fixture(autouse=True)
def on_a_standin(kinds, monkeypatch):
    """A stand-in for the GPU, blocks of a few rows, and the generic engine.

    By name: beside a GPU the compiled engine would take the stand-in for an array of its own.
    """
    monkeypatch.setattr(run_task, "BLOCK_LOGITS", BLOCK * CLASSES)
    monkeypatch.setitem(array_libraries.DEVICES, "cupy", lambda cupy: ["a stand-in"])
    monkeypatch.setitem(array_libraries.CONVERTERS, "cupy", DeviceArray)
    for name in ("z", "soft", "w"):
        np.save(f"{name}.npy", vars(kinds)[name].astype(np.float32))
    with xloss.use_engine("generic"):
        yield


@pytest.mark.parametrize("line", ["z.npy y.npy --weight w.npy", "z.npy soft.npy"])
def test_rows_alone_come_back_to_the_host(command, line):
    expected = command.answer(line)
    with transfers() as sizes:
        got = command.answer(f"{line} --backend cupy")
    assert (expected["backend"], got["backend"]) == ("numpy", "cupy")
    assert got["loss"] == pytest.approx(expected["loss"], rel=1e-6)
    keys = "row", "label", "predicted"
    for one, other in zip(got["worst"], expected["worst"], strict=True):
        assert [one[key] for key in keys] == [other[key] for key in keys]
    # Of each block the loss, weight and hit of every row, and where one of them is among the worst
    # the predictions; never a logit. Of weights one number more: what they are scaled by.
    blocks = ROWS // BLOCK
    assert set(sizes) <= {1, BLOCK, 3 * BLOCK}
    assert sizes.count(3 * BLOCK) == blocks
    assert max(sizes.count(1), sizes.count(BLOCK)) <= blocks


def test_nothing_but_the_rows_is_asked_for_without_the_worst(command):
    with transfers() as sizes:
        command.answer("z.npy y.npy --backend cupy --worst 0")
    assert sizes == [3 * BLOCK] * (ROWS // BLOCK)
