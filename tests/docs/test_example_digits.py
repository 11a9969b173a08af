"""The example runs as its first lines say, and the data that README evaluates are what it wrote."""

import runpy
import sys
from contextlib import redirect_stdout
from io import StringIO

import numpy as np
import pytest

from places import ROOT
from xloss import cross_entropy

EXAMPLES = ROOT / "examples"
DATA = EXAMPLES / "data"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What it has written and printed in the test's process, which has the libraries already."""
    jax = pytest.importorskip("jax", reason="the table has a row of JAX: pip install 'xloss[jax]'")
    folder, before = tmp_path_factory.mktemp("digits"), jax.config.jax_enable_x64
    asked = ["digits.py", "--steps", "3", "--data", str(folder)]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as printed:
        patch.setattr(sys, "argv", asked)
        runpy.run_path(str(EXAMPLES / "digits.py"), run_name="__main__")
    jax.config.update("jax_enable_x64", before)  # the example sets it
    return folder, printed.getvalue()


def test_every_library_and_way_ends_within_rounding_of_numpy(trained):
    _, out = trained
    rows = [line.split() for line in out.splitlines() if line.endswith(" eps")]
    ways = {(name, way, dtype) for name, way, dtype, *_ in rows}
    closed = {(n, "value_and_grad") for n in ("numpy", "torch", "jax", "array_api_strict")}
    expected = closed | {("torch", "autodiff"), ("jax", "autodiff")}
    assert {(n, w, d) for n, w in expected for d in ("float64", "float32")} <= ways
    for name, way, dtype, loss, apart, _ in rows:
        assert float(loss) == pytest.approx(2.11, abs=0.01), (name, way, dtype)
        assert float(apart) <= 8, (name, way, dtype)


def test_the_logits_are_written_and_have_learned_something(trained):
    folder, out = trained
    logits, labels = load(folder)
    right = np.mean(logits.argmax(axis=1) == labels)
    assert f"loss {cross_entropy(logits, labels):.4f}, {right:.1%} right" in out
    assert right > 0.6


def test_the_committed_data_are_what_300_steps_give():
    from sklearn.datasets import load_digits

    # Another machine's BLAS rounds otherwise: hence not to the last digit.
    logits, labels = load(DATA)
    np.testing.assert_array_equal(labels, load_digits(return_X_y=True)[1][::5])
    assert cross_entropy(logits, labels) == pytest.approx(0.28379586, rel=1e-6)
    assert np.mean(logits.argmax(axis=1) == labels) == 339 / 360


def load(folder):
    logits = np.load(folder / "digits_logits.npy", allow_pickle=False)
    labels = np.load(folder / "digits_labels.npy", allow_pickle=False)
    assert (logits.dtype, logits.shape) == (np.float32, (360, 10))
    assert (labels.dtype, labels.shape) == (np.int64, (360,))
    return logits, labels
