"""xloss's Keras losses beside Keras' own, in a model that trains on each of Keras' backends.

Each backend runs in a process of its own, which takes warnings as errors: the backend is chosen
when Keras is imported, once and for all. Expected values are Keras' own, and closed forms.
"""

import json
import math
import os
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from keras_training import COMPILED
from places import SUPPORT

SCRIPT = SUPPORT / "keras_training.py"
BACKENDS = ("torch", "jax", "tensorflow")
KINDS = (
    "labels (N,)",
    "labels (N, 1)",
    "one-hot",
    "ignoring",
    "ignoring, by weight",
    "probabilities",
    "soft probabilities",
    "binary",
    "binary probabilities",
    "many bits",
    "focal",
    "focal, alpha a class",
    "divergence",
)
ULP = 2.0**-23  # of float32, at 1
each_kind = pytest.mark.parametrize(
    ("backend", "kind"),
    [(b, kind) for b in BACKENDS for kind in (COMPILED if b == "jax" else KINDS)],
)


def run(backend, *command):
    for package in ("keras", backend):
        if find_spec(package) is None:
            extra = "it is large" if package == "tensorflow" else "the `test` extra has it"
            pytest.skip(f"{package} is not installed; {extra}")
    environment = {**os.environ, "KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-W", "error", *command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def trained(backend):
    with TemporaryDirectory() as folder:
        result = json.loads(run(backend, str(SCRIPT), folder).splitlines()[-1])
    if "refused" in result:
        pytest.skip(f"xloss takes no arrays of {backend} here: {result['refused']}")
    assert result["backend"] == backend
    assert set(result["kinds"]) == set(COMPILED if backend == "jax" else KINDS)
    return result


@each_kind
def test_loss_and_first_step_are_those_of_keras_own(backend, kind):
    ours, theirs = (trained(backend)["kinds"][kind][who] for who in ("xloss", "keras"))
    for mine, other in (
        (ours["called"], theirs["called"]),
        (ours["losses"][0], theirs["losses"][0]),
    ):
        assert other > 0.02
        assert abs(mine - other) <= 2 * ULP * max(1.0, other)
    # One step of gradient descent: the weights show every entry of the gradient.
    moved = np.abs(np.subtract(ours["stepped"], theirs["stepped"]))
    assert moved.max() <= ULP * max(1.0, np.abs(theirs["stepped"]).max())


@each_kind
def test_training_brings_the_loss_down(backend, kind):
    ours, theirs = (trained(backend)["kinds"][kind][who]["losses"] for who in ("xloss", "keras"))
    assert all(later < earlier for earlier, later in pairwise(ours))
    # Rounding differs, and grows from step to step, but not by much in 8 of them.
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_weights_and_ignored_rows_are_seen(backend):
    kinds = trained(backend)["kinds"]
    some = ("labels (N,)", "labels (N, 1)", "one-hot", "ignoring", "ignoring, by weight")
    called = [kinds[kind]["xloss"]["called"] for kind in some if kind in kinds]
    assert all(abs(a - b) > 1e-3 for a, b in pairwise(called))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_mixed_precision(backend, dtype):
    found = trained(backend)["mixed"][dtype]
    assert found["output"] == dtype
    assert found["xloss"][-1] < found["xloss"][0]
    # A gradient may round to the neighbour of its 16-bit value: the first loss sees none.
    assert found["xloss"][0] == pytest.approx(found["keras"][0], rel=2 * ULP)
    np.testing.assert_allclose(found["xloss"], found["keras"], rtol=2e-3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_saved_model_has_its_loss_with_its_options(backend):
    assert trained(backend)["saved"] == [True] * 8


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_not_keras_is_the_closed_form(backend):
    found = trained(backend)["special"]
    log2, tail = math.log(2), math.log1p(math.exp(-20))
    expected = {
        "tail": tail,
        "binary tail": tail,
        "focal of labels": 0.5 * log2,
        "focal of a column": 0.5 * log2,
        "smoothed label": -0.75 * math.log(0.75) - 0.25 * math.log(0.25),
        "unnormalised": -math.log(0.75),
        "focal, unnormalised": -0.25 * math.log(0.75),
        "z": log2 + log2**2,
        "divergence": log2,
        "divergence of logits": log2,
        "bits without a class axis": 2 * log2,
        "axis": tail,
    }
    assert found == pytest.approx(expected, rel=4 * ULP, abs=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_wrong_uses_are_named(backend):
    found = trained(backend)["errors"]
    assert found["one class"].startswith("y_pred: has one class along axis -1")
    assert found["rounded labels"].startswith("dtype: Keras has rounded the labels to bfloat16")
    assert found["softcap"].startswith("z_loss, softcap: are of logits")
