"""Targets that are no array are refused, and a 0-d one is a row; every dtype is the suite's."""

import numpy as np
import pytest

import xloss
from expected import BINARY, close, expected, inputs, loss, targets


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
