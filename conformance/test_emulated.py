"""The catalogue on the CUDA engine, whose kernels run on the host (tests/support/emulated.py)."""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager
from importlib import import_module
from itertools import product
from typing import Any

import numpy as np
import pytest

from array_adapters import adapter
from held import held
from nightly import core
from xloss_conformance.cases import catalogue
from xloss_conformance.cases.arrays import logits
from xloss_conformance.model import DTYPES, Case
from xloss_conformance.xloss_subjects import COMPILED, Xloss

pytestmark = pytest.mark.skipif(
    shutil.which("g++") is None,
    reason="the kernels are compiled for the host by g++: install it to run this",
)

CASES = [c for c in catalogue() if c.loss == "cross_entropy" and not c.on_demand]
NAME = "emulated"


@pytest.fixture(autouse=True)
def emulated(have: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a library of that name: PyTorch's tensors, as they would be on a GPU."""
    pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
    have(adapter(NAME))
    monkeypatch.setitem(COMPILED, NAME, "cuda")


def gpu(capability: int = 90) -> AbstractContextManager[Any]:
    made: AbstractContextManager[Any] = import_module("emulated").emulated(capability)
    return made


# A dtype's quick cases are some 40 kernels, which g++ compiles in half a minute.
QUICK, OTHERS = ([c for c in CASES if c.quick == quick] for quick in (True, False))
WAYS = [(QUICK, *way) for way in product(DTYPES, ("closed form", "autograd"))]
WAYS += [(OTHERS, dtype, "closed form") for dtype in DTYPES]
BY_DAY = (("float32", "closed form"), ("bfloat16", "autograd"))


@pytest.mark.parametrize(
    ("cases", "dtype", "gradient"),
    core(WAYS, lambda cases, *way: cases is QUICK and way in BY_DAY),
    ids=lambda given: given if isinstance(given, str) else "quick" if given is QUICK else "others",
)
def test_the_kernels_keep_the_contract(cases: list[Case], dtype: str, gradient: str) -> None:
    subject = Xloss(NAME, dtype, gradient)
    with gpu() as device:
        assert subject.traits.compiled
        report = held(subject, cases)
    assert device.launches
    assert sum(v.status == "pass" for v in report.verdicts) > 20


def long_rows(dtype: str) -> list[Case]:
    """Rows that two blocks share, the first of which has but masked classes of one of them."""
    classes = 8203 if dtype == "float32" else 4103
    x = logits(2, classes, seed=8)
    x[0, : classes // 2 + 8] = -np.inf
    y = np.asarray([classes - 1, 17])
    t = np.zeros((2, classes))
    t[[0, 1], y], t[[0, 1], [classes - 5, classes - 1]] = 0.75, 0.25
    why = "what the blocks of a row found is merged"
    rows = {"reduction": "none"}
    given = [("labels", y, {}), ("smoothed", y, {"label_smoothing": 0.125}), ("soft", t, {})]
    return [Case("parts", name, why, x, to, options={**rows, **more}) for name, to, more in given]


@pytest.mark.parametrize("dtype", core(("float32", "float64"), lambda dtype: dtype == "float32"))
def test_blocks_that_share_a_row_keep_it_too(dtype: str) -> None:
    with gpu() as device:
        report = held(Xloss(NAME, dtype), long_rows(dtype))
        parts = {dict(c).get("PARTS") for c, _ in device.launches} - {None}
    assert parts == {2}
    assert {v.status for v in report.verdicts} == {"pass"}
