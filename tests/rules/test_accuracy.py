"""Rows as a GPU divides them, against 80 digits, within the budget of docs/accuracy.md.

Every option, every loss and the tail are cases of the suite, which judges them by the same budget
on every library (conformance/test_catalogue.py).
"""

from __future__ import annotations

from itertools import product

import pytest

from accuracy_cases import CLASSES, divided
from emulated import emulated
from judged import hold
from nightly import core
from xloss_conformance.xloss_subjects import COMPILED


@pytest.mark.parametrize(
    ("dtype", "classes"),
    # Of 4 classes are the rows of every gap.
    core(
        product(("float32", "float64"), (4, *CLASSES)),
        lambda dtype, classes: classes in (3, 4, 127, 2000, 8203),
    ),
)
def test_rows_as_a_gpu_divides_them(
    dtype: str, classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within 4 ulp: value, true class and all others."""
    monkeypatch.setitem(COMPILED, "emulated", "cuda")
    cases = [case for case in divided(dtype) if case.classes == classes]
    with emulated() as gpu:
        assert hold("emulated", dtype, cases) == len(cases)
    assert gpu.launches
