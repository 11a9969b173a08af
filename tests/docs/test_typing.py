"""The types of the public functions: what a user's type checker accepts, refuses and infers."""

import tomllib
from typing import Any

import numpy as np

import xloss
from places import ROOT
from xloss._typing import Array


def test_mypy_reads_the_examples():
    """`nox -s types` finds what they say, and nothing else."""
    examples = "tests/support/typing_examples.py"
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert examples in settings["tool"]["mypy"]["files"]
    assert (ROOT / examples).exists()


MEMBERS = sorted(name for name in vars(Array) if name in ("dtype", "shape", "ndim")) + [
    name
    for name, member in vars(Array).items()
    if name.startswith("__") and callable(member) and name not in ("__init__", "__subclasshook__")
]


def test_arrays_of_every_library_have_all_that_the_protocol_promises(lib):
    assert {"dtype", "shape", "ndim", "__add__", "__getitem__", "__float__"} <= set(MEMBERS)
    x: Any = lib.like(np.array([[2.0, 1.0, 0.0]]))
    assert [name for name in MEMBERS if not hasattr(x, name)] == []
    y = lib.like(np.array([0]))
    # So have losses a row; of 0-d results NumPy makes scalars.
    row_losses: Any = xloss.cross_entropy(x, y, reduction="none")
    assert [name for name in MEMBERS if not hasattr(row_losses, name)] == []
