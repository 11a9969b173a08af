"""The types of the public functions: what a user's type checker accepts, refuses and infers."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import xloss
from places import ROOT
from xloss._typing import Array


def test_mypy_finds_what_the_examples_say_and_nothing_else():
    for library in ("mypy", "dask", "jax", "torch"):
        pytest.importorskip(library)
    examples = "tests/support/typing_examples.py"
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", examples],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout == ""


MEMBERS = sorted(name for name in vars(Array) if name in ("dtype", "shape", "ndim")) + [
    name
    for name, member in vars(Array).items()
    if name.startswith("__") and callable(member) and name not in ("__init__", "__subclasshook__")
]


def test_the_protocol_has_members():
    assert {"dtype", "shape", "ndim", "__add__", "__getitem__", "__float__"} <= set(MEMBERS)


def test_arrays_of_every_library_have_all_that_the_protocol_promises(lib):
    x: Any = lib.like(np.array([[2.0, 1.0, 0.0]]))
    assert [name for name in MEMBERS if not hasattr(x, name)] == []
    y = lib.like(np.array([0]))
    # So have losses a row; of 0-d results NumPy makes scalars.
    row_losses: Any = xloss.cross_entropy(x, y, reduction="none")
    assert [name for name in MEMBERS if not hasattr(row_losses, name)] == []
