"""The catalogue on the array that stands in for CuPy's: no way to the host, subnormals flushed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest

from array_adapters import StandIn
from xloss_conformance.cases import catalogue
from xloss_conformance.deviations import FILE, read
from xloss_conformance.result import explained
from xloss_conformance.run import run
from xloss_conformance.xloss_subjects import Xloss

cupy = pytest.importorskip("cupy", reason="CuPy has wheels for Linux and Windows only")

# The emulated kernels of the compiled engine have the cases of cross_entropy in test_emulated.py.
CASES = [c for c in catalogue() if not c.on_demand and (c.quick or "focal" in c.loss)]


@pytest.mark.parametrize("dtype", StandIn.dtypes)
def test_it_keeps_the_contract(have: Any, monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    have(StandIn())
    # There is no GPU to ask, and no cuBLAS.
    monkeypatch.setattr(
        "xloss.backends.cupy.linear_products.has_tensor_cores", lambda weight: False
    )
    subject = Xloss(StandIn.name, dtype, engine="generic")
    assert subject.traits.flushes == (dtype != "float64")
    report = run([subject], CASES, deviations=read(FILE))
    assert sum(v.status == "pass" for v in report.verdicts) > 40
    assert not report.failures, "\n".join(explained(v) for v in report.failures)


def test_it_flushes_as_cupy_does() -> None:
    """The two sums that an H200 was seen to make."""
    arrays: Any = import_module("standin")
    x = arrays.DeviceArray(np.asarray([-88.0, 1.2e-38], np.float32))
    assert arrays.NAMESPACE.exp(x)._values[0] == 0
    assert (x * 0.5)._values[1] == 0
    wide = arrays.DeviceArray(np.asarray([-708.5, 2.3e-308]))
    assert arrays.NAMESPACE.exp(wide)._values[0] > 0
    assert (wide * 0.5)._values[1] > 0
