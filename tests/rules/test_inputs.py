"""Inputs as they come: in any layout, mapped from a file, of more than 2^31 elements."""

import numpy as np
import pytest

import xloss
from expected import inputs, labels


def test_a_memory_map_is_read_in_place(tmp_path):
    x, y = inputs("cross_entropy", (6, 5)).astype("f4"), labels(6, 5)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    value, gradient = xloss.value_and_grad(xloss.cross_entropy)(mapped, y)
    want, slope = xloss.value_and_grad(xloss.cross_entropy)(x, y)
    assert value == want
    assert type(gradient) is np.ndarray
    np.testing.assert_array_equal(gradient, slope)


def test_axis_may_be_a_numpy_integer():
    x, y = inputs("cross_entropy", (6, 5)), labels(6, 5)
    assert xloss.cross_entropy(x.T, y, axis=np.int64(0)) == xloss.cross_entropy(x, y)


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
