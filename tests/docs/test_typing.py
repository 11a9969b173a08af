"""The protocol of arrays; what a type checker makes of calls is in typing_examples, for mypy."""

from typing import Any

import numpy as np

import xloss
from xloss._typing import Array

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
