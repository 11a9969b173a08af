"""What comes to the host from CuPy's arrays: nothing, but where the result is on the host."""

import numpy as np
import pytest

import xloss
from expected import close, expected, inputs, soft, targets

pytest.importorskip("cupy", reason="CuPy has wheels for Linux and Windows only")

from standin import DeviceArray, transfers

ROWS, CLASSES = 64, 33


@pytest.fixture(autouse=True)
def generic():
    with xloss.use_engine("generic"):
        yield


def given(kind):
    x, t = inputs("cross_entropy", (ROWS, CLASSES)), targets("cross_entropy", (ROWS, CLASSES))
    return x, (soft((ROWS, CLASSES)) if kind == "soft" else t)


def on_device(*arrays):
    return [DeviceArray(a.astype(np.float32) if a.dtype.kind == "f" else a) for a in arrays]


@pytest.mark.parametrize("kind", ["labels", "soft"])
def test_an_evaluation_takes_three_numbers_a_row_at_once(kind):
    x, t = given(kind)
    with transfers() as sizes:
        result = xloss.Evaluation().update(*on_device(x, t)).result()
    assert sizes == [3 * ROWS]
    close(np.float32(result.loss), expected("cross_entropy", x, t).value)


@pytest.mark.parametrize("kind", ["labels", "soft"])
def test_a_diagnosis_takes_the_rows_it_explains(kind):
    x, t = given(kind)
    x[3, 2], x[7] = np.nan, -np.inf
    if kind == "soft":
        t[11, 0] = -0.25
    with transfers() as sizes:
        report = xloss.diagnose(*on_device(x, t))
    found = {f.rule: f.positions for f in report.findings}
    want = {"nan_logit": ((3,),), "no_possible_class": ((7,),)}
    assert found == want | ({"bad_target": ((11,),)} if kind == "soft" else {})
    # Three numbers a row; its label, or whether its targets are odd; the logits of two rows, and
    # of soft targets those.
    rest = [2 * CLASSES] * (2 if kind == "soft" else 1)
    assert sorted(sizes) == sorted([3 * ROWS, ROWS, *rest])


def test_a_diagnosis_of_finite_rows_takes_no_logits():
    x, t = given("soft")
    with transfers() as sizes:
        assert not xloss.diagnose(*on_device(x, t)).findings
    assert max(sizes) == 3 * ROWS
