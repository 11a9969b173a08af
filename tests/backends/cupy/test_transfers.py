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


def test_nothing_else_comes():
    """A block that allows it, and is not asked."""
    x, t = given("labels")
    z, y = on_device(x, t)
    with transfers() as sizes:
        for how in ("mean", "sum", "none"):
            xloss.value_and_grad(xloss.cross_entropy)(z, y, reduction=how)
        xloss.cross_entropy(z, t, weight=np.ones(CLASSES), sample_weight=np.ones(ROWS))
        features, matrix = on_device(
            inputs("nll_loss", (ROWS, 4)), inputs("nll_loss", (CLASSES, 4))
        )
        xloss.value_and_grad(xloss.linear_cross_entropy, (0, 1))(features, matrix, y)
        xloss.linear_cross_entropy(features, matrix, t, block_rows=7, reduction="none")
        for op in (xloss.logsumexp, xloss.softmax, xloss.log_softmax, xloss.entropy):
            op(z)
        xloss.effective_count(y, sample_weight=np.ones(ROWS))
        xloss.one_hot(y, CLASSES)
    assert sizes == []
