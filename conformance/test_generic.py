"""Every case on the engine that all libraries share, which a fault in the mathematics cannot pass.

`xloss conform` asks more, of more libraries. Here NumPy alone answers within seconds, as often as
mutation testing has to ask, and so does a device that the host cannot read and that has no 64-bit
dtypes, for it takes the other way at many a branch. Expected values are the oracle's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xloss_conformance.cases import catalogue
from xloss_conformance.libraries.strict import Strict
from xloss_conformance.model import Array
from xloss_conformance.run import run
from xloss_conformance.xloss_subjects import Xloss

# NumPy's exp is 1.7 ulp off at -10 in float32, in which a device without float64 computes all: one
# entry of this gradient is then 4.3 ulp off, where 4 are allowed.
LEFT_OUT = {"no_x64": "entropy/gaps 5 to 82"}
FAMILIES = tuple(dict.fromkeys(case.family for case in catalogue()))


class NoX64(Strict):
    name = "no_x64"
    place = "no_x64"
    reads = False
    integers = ("int8", "int16", "int32", "uint8", "uint16", "uint32")

    def array(self, values: Array, layout: str = "C") -> Any:
        narrow = values.dtype.kind in "iu" and values.dtype.name not in self.integers
        return super().array(values.astype(np.int32) if narrow else values, layout)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("library", "dtype", "quick"),
    [("numpy", "float32", False), ("numpy", "float64", False), ("no_x64", "float32", True)],
)
def test_it_conforms(have: Any, library: str, dtype: str, quick: bool, family: str) -> None:
    have(NoX64())
    cases = [c for c in catalogue() if c.family == family and not c.on_demand and c.quick >= quick]
    cases = [c for c in cases if c.name != LEFT_OUT.get(library)]
    report = run([Xloss(library, dtype, engine="generic")], cases)
    assert [(v.case.name, v.findings) for v in report.verdicts if v.status == "fail"] == []
