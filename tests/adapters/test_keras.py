"""The tests of keras_training.py on each of Keras' backends, in a process of its own.

The backend is chosen when Keras is imported, once and for all.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.mark.parametrize("backend", ["torch", "jax", "tensorflow"])
def test_losses_on(backend):
    for package in ("keras", backend):
        if find_spec(package) is None:
            extra = "it is large" if package == "tensorflow" else "the `test` extra has it"
            pytest.skip(f"{package} is not installed; {extra}")
    script = Path(__file__).with_name("keras_training.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(script)],
        env={**os.environ, "KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout
