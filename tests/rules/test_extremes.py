"""Where an intermediate number leaves the floats and the result does not; expected by hand."""

from math import inf

import numpy as np
import pytest

import xloss
from expected import CLASS, inputs, loss
from xloss import value_and_grad


@pytest.mark.parametrize(
    "option", [{}, {"label_smoothing": 0.25}, {"z_loss": 0.5}, {"softcap": 16.0}]
)
def test_a_row_of_no_probability_is_nothing_beside_an_infinity(option):
    x = np.array([[-inf, 0.0, inf], [0.0, 1.0, -inf], [0.0, 1.0, 2.0]])
    rows, gradients = value_and_grad(xloss.cross_entropy, (0, 1))(
        x, np.zeros((3, 3)), reduction="none", **option
    )
    assert not rows.any()
    assert not gradients[0].any()
    assert np.isfinite(gradients[1]).all()


@pytest.mark.parametrize("lib", ["numpy", "strict", "torch"], indirect=True)
@pytest.mark.parametrize("name", CLASS)
def test_an_infinite_weight_is_nan_and_a_normalizer_of_zero_inf_without_a_warning(lib, name):
    x, y = lib.array(inputs(name, (2, 4))), lib.array([1, 2], "int32")
    infinite = ({"sample_weight": lib.array([inf, 1.0])}, {"weight": lib.array([1, inf, 1, 1])})
    for run in (value_and_grad(loss(name)), lambda *a, **k: (loss(name)(*a, **k),)):
        for given in infinite:
            assert np.isnan(lib.host(run(x, y, **given)[0]))
            assert lib.host(run(x, y, **given, reduction="sum")[0]) == inf
        assert lib.host(run(x, y, normalizer=0.0)[0]) == inf
