"""The example runs as its first lines say, and the data that README evaluates are what it wrote."""

import subprocess
import sys

import numpy as np
import pytest

from places import ROOT
from xloss import cross_entropy

EXAMPLES = ROOT / "examples"
DATA = EXAMPLES / "data"


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    result = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            str(EXAMPLES / "digits.py"),
            "--steps",
            "3",
            "--out",
            str(folder / "curves.png"),
            "--data",
            str(folder / "data"),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert result.returncode == 0, result.stderr
    return folder, result.stdout


def test_every_library_and_way_ends_within_rounding_of_numpy(ran):
    _, out = ran
    rows = [line.split() for line in out.splitlines() if line.endswith(" eps")]
    ways = {(name, way, dtype) for name, way, dtype, *_ in rows}
    closed = {(n, "value_and_grad") for n in ("numpy", "torch", "jax", "array_api_strict")}
    expected = closed | {("torch", "autodiff"), ("jax", "autodiff")}
    assert {(n, w, d) for n, w in expected for d in ("float64", "float32")} <= ways
    for name, way, dtype, loss, apart, _ in rows:
        assert float(loss) == pytest.approx(2.11, abs=0.01), (name, way, dtype)
        assert float(apart) <= 8, (name, way, dtype)


def test_the_picture_and_the_logits_are_written(ran):
    folder, out = ran
    picture = (folder / "curves.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n")
    assert picture.endswith(b"IEND\xaeB`\x82")
    logits, labels = load(folder / "data")
    assert f"loss {cross_entropy(logits, labels):.4f}" in out
    assert f"{np.mean(logits.argmax(axis=1) == labels):.1%} right" in out
    assert sorted(p.name for p in folder.iterdir()) == ["curves.png", "data"]


def test_three_steps_have_learned_something(ran):
    logits, labels = load(ran[0] / "data")
    assert np.mean(logits.argmax(axis=1) == labels) > 0.6


def test_the_committed_data_are_what_300_steps_give():
    # Another machine's BLAS rounds otherwise: hence not to the last digit.
    logits, labels = load(DATA)
    np.testing.assert_array_equal(labels, held_out_labels())
    assert cross_entropy(logits, labels) == pytest.approx(0.28379586, rel=1e-6)
    assert np.mean(logits.argmax(axis=1) == labels) == 339 / 360


def load(folder):
    logits = np.load(folder / "digits_logits.npy", allow_pickle=False)
    labels = np.load(folder / "digits_labels.npy", allow_pickle=False)
    assert (logits.dtype, logits.shape) == (np.float32, (360, 10))
    assert (labels.dtype, labels.shape) == (np.int64, (360,))
    return logits, labels


def held_out_labels():
    from sklearn.datasets import load_digits

    return load_digits(return_X_y=True)[1][::5]
