"""xloss eval --backend cupy, without a GPU: what comes back to the host, and how much of it."""

import json

import numpy as np
import pytest

import xloss
from xloss.cli import array_converters, run_task
from xloss.cli.app import run

pytest.importorskip("cupy", reason="CuPy has wheels for Linux and Windows only")

from standin import DeviceArray

ROWS, CLASSES = 64, 5


@pytest.fixture
def brought(tmp_path, monkeypatch):
    """Files in the current folder, a stand-in for the GPU, and the sizes of what leaves it."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(4)
    np.save("z.npy", rng.normal(scale=3, size=(ROWS, CLASSES)).astype(np.float32))
    np.save("y.npy", np.where(rng.uniform(size=ROWS) < 0.1, -100, rng.integers(0, CLASSES, ROWS)))
    np.save("t.npy", rng.dirichlet(np.ones(CLASSES), ROWS).astype(np.float32))
    np.save("w.npy", rng.uniform(size=CLASSES).astype(np.float32))
    sizes = []

    def get(self):
        sizes.append(self._values.size)
        return self._values.copy()

    monkeypatch.setattr(DeviceArray, "get", get)
    monkeypatch.setitem(array_converters.CONVERTERS, "cupy", lambda: DeviceArray)
    return sizes


def answer(capsys, *arguments):
    # By name: beside a GPU the compiled engine would take the stand-in for an array of its own.
    with xloss.use_engine("generic"):
        assert run(["eval", *arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    got = json.loads(out)
    got.pop("seconds")
    return got


@pytest.mark.parametrize(
    "arguments",
    [("y.npy",), ("y.npy", "--weight", "w.npy", "--label-smoothing", "0.1"), ("t.npy",)],
)
def test_rows_alone_come_back_to_the_host(brought, capsys, monkeypatch, arguments):
    monkeypatch.setattr(run_task, "BLOCK_LOGITS", 16 * CLASSES)
    expected = answer(capsys, "z.npy", *arguments)
    assert brought == []
    got = answer(capsys, "z.npy", *arguments, "--backend", "cupy")
    assert got.pop("backend") == "cupy"
    expected.pop("backend")
    assert got.pop("loss") == pytest.approx(expected.pop("loss"), rel=1e-6)
    assert got.pop("perplexity") == pytest.approx(expected.pop("perplexity"), rel=1e-5)
    for one, other in zip(got.pop("worst"), expected.pop("worst"), strict=True):
        assert one.pop("loss") == pytest.approx(other.pop("loss"), rel=1e-6)
        assert one == other
    assert got == expected
    # Of each block of 16 rows the loss, weight and hit of every row, and where one of them is among
    # the worst the predictions; never a logit. Of weights one number more: what they are scaled by.
    blocks = ROWS // 16
    assert sorted(set(brought) - {1}) in ([16, 48], [48])
    assert brought.count(1) <= blocks
    assert brought.count(48) == blocks
    assert brought.count(16) <= blocks


def test_nothing_but_the_rows_is_asked_for_without_the_worst(brought, capsys):
    answer(capsys, "z.npy", "y.npy", "--backend", "cupy", "--worst", "0")
    assert brought == [3 * ROWS]
