"""Every case on the engine that all libraries share, which a fault in the mathematics cannot pass.

`xloss conform` asks more, of more libraries. Here NumPy alone answers within seconds, as often as
mutation testing has to ask. Expected values are the oracle's. A device that the host cannot read
and that has no 64-bit dtypes is in tests/rules/test_suite_elsewhere.py.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest

from held import held
from xloss_conformance.cases import catalogue
from xloss_conformance.xloss_subjects import Xloss

CASES = [case for case in catalogue() if not case.on_demand]
FAMILIES = tuple(dict.fromkeys(case.family for case in CASES))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_conforms(dtype: str, family: str) -> None:
    held(Xloss("numpy", dtype, engine="generic"), [c for c in CASES if c.family == family])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_it_conforms_on_the_stand_in_for_cupy(
    have: Any, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    """There is no way to the host, and subnormals are flushed.

    The emulated kernels of the compiled engine have the cases of cross_entropy in test_emulated.py.
    """
    pytest.importorskip("cupy", reason="CuPy has wheels for Linux and Windows only")
    from array_adapters import StandIn

    have(StandIn())
    # There is no GPU to ask, and no cuBLAS.
    monkeypatch.setattr(
        "xloss.backends.cupy.linear_products.has_tensor_cores", lambda weight: False
    )
    subject = Xloss(StandIn.name, dtype, engine="generic")
    assert subject.traits.flushes == (dtype != "float64")
    report = held(subject, [c for c in CASES if c.quick or "focal" in c.loss])
    assert sum(v.status == "pass" for v in report.verdicts) > 40


def test_the_stand_in_flushes_as_cupy_does() -> None:
    """The two sums that an H200 was seen to make."""
    pytest.importorskip("cupy", reason="CuPy has wheels for Linux and Windows only")
    arrays: Any = import_module("standin")
    x = arrays.DeviceArray(np.asarray([-88.0, 1.2e-38], np.float32))
    assert arrays.NAMESPACE.exp(x)._values[0] == 0
    assert (x * 0.5)._values[1] == 0
    wide = arrays.DeviceArray(np.asarray([-708.5, 2.3e-308]))
    assert arrays.NAMESPACE.exp(wide)._values[0] > 0
    assert (wide * 0.5)._values[1] > 0
