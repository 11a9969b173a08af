"""What comes to the host from CuPy's arrays: nothing, but where the result is on the host."""

import numpy as np
import pytest

import xloss
from expected import close, expected, inputs, labels, soft

pytest.importorskip("cupy", reason="CuPy has wheels for Linux and Windows only")

from standin import DeviceArray, transfers

ROWS, CLASSES = 64, 33


@pytest.mark.parametrize("kind", ["labels", "soft"])
def test_numbers_of_rows_come_and_the_logits_of_rows_that_are_explained(kind):
    x = inputs("cross_entropy", (ROWS, CLASSES))
    t = soft((ROWS, CLASSES)) if kind == "soft" else labels(ROWS, CLASSES)
    on_device = [DeviceArray(a.astype(np.float32) if a.dtype.kind == "f" else a) for a in (x, t)]
    with xloss.use_engine("generic"):  # beside a GPU the compiled one would take the stand-in
        with transfers() as sizes:
            result = xloss.Evaluation().update(*on_device).result()
        close(np.float32(result.loss), expected("cross_entropy", x, t).value)
        assert sizes == [3 * ROWS]
        with transfers() as sizes:
            assert not xloss.diagnose(*on_device).findings
        assert max(sizes) == 3 * ROWS
        on_device[0][3, 2], on_device[0][7] = np.nan, -np.inf
        with transfers() as sizes:
            report = xloss.diagnose(*on_device)
    found = {f.rule: f.positions for f in report.findings}
    assert found == {"nan_logit": ((3,),), "no_possible_class": ((7,),)}
    # Three numbers a row; its label, or whether its targets are odd; the logits of two rows, and
    # of soft targets those.
    rest = [2 * CLASSES] * (2 if kind == "soft" else 1)
    assert sorted(sizes) == sorted([3 * ROWS, ROWS, *rest])
