"""xloss losses as the custom loss of a Keras model, by the adapters that docs/names.md shows.

Each Keras backend runs in a process of its own, which takes warnings as errors: the backend is
chosen when Keras is imported, once and for all.
"""

import json
import os
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).with_name("keras_training.py")
BACKENDS = ("torch", "jax")
KINDS = ("sparse", "one-hot, weighted", "ignoring, a column")
ULP = 2.0**-23  # of float32, at 1


@cache
def trained(backend):
    for package in ("keras", backend):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed; the `test` extra has it")
    environment = {**os.environ, "KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(SCRIPT)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["backend"] == backend
    assert set(result["kinds"]) == set(KINDS)
    return result["kinds"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_first_step_is_that_of_keras_own_loss(backend, kind):
    ours, theirs = (trained(backend)[kind][who] for who in ("xloss", "keras"))
    assert theirs["first"] > 0.5
    assert abs(ours["first"] - theirs["first"]) <= 2 * ULP * max(1.0, theirs["first"])
    # One step of gradient descent: the weights show every entry of the gradient.
    moved = np.abs(np.subtract(ours["stepped"], theirs["stepped"]))
    assert moved.max() <= ULP * max(1.0, np.abs(theirs["stepped"]).max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_training_brings_the_loss_down(backend, kind):
    ours, theirs = (trained(backend)[kind][who]["losses"] for who in ("xloss", "keras"))
    assert all(later < earlier for earlier, later in pairwise(ours))
    assert ours[-1] < 0.5 * ours[0]
    # Rounding differs, and grows from step to step, but not by much in 8 of them.
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_weights_and_ignored_rows_are_seen(backend):
    first = [trained(backend)[kind]["xloss"]["first"] for kind in KINDS]
    assert all(abs(a - b) > 1e-3 for a, b in pairwise(first))
