"""Inputs as they come: mapped from a file, of no dimension, of more than 2^31 elements.

Memory in any layout, and targets of every dtype, are cases of the suite.
"""

import numpy as np
import pytest

import xloss
from expected import BINARY, close, expected, inputs, labels, loss, targets


def test_a_memory_map_is_read_in_place(tmp_path):
    x, y = inputs("cross_entropy", (6, 5)).astype("f4"), labels(6, 5)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    value, gradient = xloss.value_and_grad(xloss.cross_entropy)(mapped, y)
    want, slope = xloss.value_and_grad(xloss.cross_entropy)(x, y)
    assert value == want
    assert type(gradient) is np.ndarray
    np.testing.assert_array_equal(gradient, slope)


def test_options_may_be_numpy_integers():
    x, y = inputs("cross_entropy", (6, 5)), labels(6, 5)
    got = xloss.cross_entropy(x.T, y, axis=np.int64(0), ignore_index=np.uint8(3))
    assert got == xloss.cross_entropy(x, y, ignore_index=3) != xloss.cross_entropy(x, y)


def test_a_numpy_scalar_is_an_array_of_no_dimension():
    x = inputs("cross_entropy", (1, 5))
    value = xloss.cross_entropy(x[0], np.uint8(3))
    close(value, expected("cross_entropy", x, np.array([3])).value, "float64")


@pytest.mark.parametrize("lib", ["numpy", "torch", "dask"], indirect=True)
@pytest.mark.parametrize("name", BINARY)
def test_a_binary_loss_of_one_logit_of_no_dimension(lib, name):
    x, t, s = inputs(name, (1,)), targets(name, (1,)), np.array([0.5])
    for how in ("mean", "sum", "none"):
        want = expected(name, x, t, sample_weight=s, reduction=how)
        value, gradient = xloss.value_and_grad(loss(name))(
            lib.array(x[0]), lib.array(t[0]), sample_weight=lib.array(s[0]), reduction=how
        )
        close(lib.host(value), want.rows[0] if how == "none" else want.value)
        close(lib.read(gradient), want.grad[0])


def test_more_than_2_to_the_31_elements():
    """Rows repeated by stride 0: nothing of that size is stored."""
    rows, classes = 2**16 + 1, 2**15
    x = np.broadcast_to(np.linspace(-1, 1, classes, dtype=np.float32), (rows, classes))
    y = np.zeros(rows, np.int64)
    y[-1] = classes - 1
    assert x.size > 2**31
    assert xloss.nll_loss(x, y, reduction="sum") == rows - 2
    y[-1] = classes
    with pytest.raises(IndexError, match=rf"position \({rows - 1},\)"):
        xloss.nll_loss(x, y)
