"""A mean does not depend on the scale of the weights: tiny, huge and subnormal ones alike.

Expected is the oracle's mean with weights near 1: times a power of two, they are the same mean.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import xloss
from expected import LOSSES, close, expected, inputs, labels, loss, shape, targets
from libraries import Library
from xloss import Evaluation, value_and_grad

ROWS, CLASSES = 5, 4
SMALL, LARGE = -120, 120  # powers of two that float32 has, and whose product with others it has not
ROW_WEIGHT = np.array([1.0, 1.5, 0.5, 1.25, 1.75])
CLASS_WEIGHT = np.array([1.0, 0.5, 1.75, 1.25])
# On every library each loss is held to moderate weights, and cross_entropy to extreme ones, by the
# suite (family "range").
PLACES = pytest.mark.parametrize("lib", ["numpy", "no_x64"], indirect=True)
OTHERS = pytest.mark.parametrize("lib", ["numpy", "no_x64", "torch", "jax", "dask"], indirect=True)


def agrees(lib: Library, name: str, scaled: dict[str, Any], plain: dict[str, Any]) -> None:
    """Hold value and gradient under the scaled weights to the oracle's under the plain ones."""
    x = inputs(name, shape(name, ROWS, CLASSES))
    t = targets(name, x.shape)
    want = expected(name, x, t, **plain)
    x, t = lib.array(x), lib.like(t)
    value, grad = value_and_grad(loss(name))(x, t, **lib.given(scaled))
    close(lib.host(value), want.value, within=32)
    close(lib.host(grad), want.grad, within=32, scale=np.abs(want.grad).max())


@PLACES
@pytest.mark.parametrize("power", [SMALL, LARGE])
@pytest.mark.parametrize("name", LOSSES)
def test_sample_weights(lib, name, power):
    agrees(lib, name, {"sample_weight": np.ldexp(ROW_WEIGHT, power)}, {"sample_weight": ROW_WEIGHT})


@OTHERS
@pytest.mark.parametrize("power", [SMALL, LARGE])
@pytest.mark.parametrize("as_array", [False, True])
def test_a_normalizer_of_the_weights_size(lib, power, as_array):
    if lib.name == "jax" and power == SMALL and as_array:
        power += 8  # the same, of fewer bits
    size = np.ldexp(3.0, power)
    scaled = {
        "sample_weight": np.ldexp(ROW_WEIGHT, power),
        "normalizer": lib.array(size) if as_array else float(size),
    }
    agrees(lib, "cross_entropy", scaled, {"sample_weight": ROW_WEIGHT, "normalizer": 3.0})


@OTHERS
def test_a_huge_weight_that_nothing_meets_changes_nothing(lib):
    """That of a row whose label is ignored, or of a class that is no row's."""
    x, t = inputs("cross_entropy", (ROWS, CLASSES)), labels(ROWS, CLASSES - 1)
    t[1] = -100
    want = expected("cross_entropy", x, t)
    rows, classes = np.full(ROWS, 1e-38), np.full(CLASSES, 1e-38)
    rows[1] = classes[-1] = 1e38
    for weights in ({"sample_weight": rows}, {"weight": classes}):
        if lib.name == "dask" and "weight" not in weights:
            continue  # its labels are read in their chunks alone; the row's weight is a bound
        got = xloss.cross_entropy(lib.array(x), lib.like(t), **lib.given(weights))
        close(lib.host(got), want.value, within=32)


@pytest.mark.parametrize("lib", ["numpy", "device1", "torch", "jax"], indirect=True)
@pytest.mark.parametrize("power", [-110, 110])
def test_an_evaluation_and_a_count(lib, power):
    x, t = inputs("cross_entropy", (ROWS, CLASSES)), labels(ROWS, CLASSES)
    want = expected("cross_entropy", x, t, sample_weight=ROW_WEIGHT, weight=CLASS_WEIGHT)
    both = {
        "sample_weight": lib.array(np.ldexp(ROW_WEIGHT, power)),
        "weight": lib.array(np.ldexp(CLASS_WEIGHT, power)),
    }
    record = Evaluation().update(lib.array(x), lib.like(t), **both)
    got = (record + record).result()
    close(np.asarray(got.loss), want.value, within=32)
    weight = np.sum(ROW_WEIGHT * CLASS_WEIGHT[t])
    np.testing.assert_allclose(got.weight, 2 * weight * 2.0 ** (2 * power), rtol=1e-12)
    count = lib.host(xloss.effective_count(lib.like(t), sample_weight=both["sample_weight"]))
    np.testing.assert_allclose(count, np.ldexp(np.sum(ROW_WEIGHT), power), rtol=1e-6)


@OTHERS
def test_linear_cross_entropy(lib):
    features, matrix = inputs("cross_entropy", (ROWS, 2), 1), inputs("cross_entropy", (CLASSES, 2))
    t = labels(ROWS, CLASSES)
    want = expected("cross_entropy", features @ matrix.T, t).value
    arrays = lib.array(features), lib.array(matrix), lib.like(t)
    for size in (1e-38, 1e38):
        by_row, by_class = lib.array(np.full(ROWS, size)), lib.array(np.full(CLASSES, size))
        got = xloss.linear_cross_entropy(*arrays, sample_weight=by_row, class_weight=by_class)
        close(lib.host(got), want, within=64)


@pytest.mark.parametrize("power", [SMALL, LARGE])
def test_autodiff_that_sums_rounded_rows(power):
    torch = pytest.importorskip("torch")
    x, t = inputs("cross_entropy", (ROWS, CLASSES)), labels(ROWS, CLASSES)
    want = expected("cross_entropy", x, t, sample_weight=ROW_WEIGHT)
    y = torch.tensor(t)
    weight = torch.tensor(np.ldexp(ROW_WEIGHT, power), dtype=torch.float32)

    def loss_of(z):
        return xloss.cross_entropy(z, y, sample_weight=weight)

    z = torch.tensor(x, dtype=torch.float32)
    grads = [
        torch.func.grad(loss_of)(z),
        torch.func.vmap(torch.func.grad(loss_of))(z[None])[0],
        torch.compile(torch.func.grad(loss_of), backend="eager")(z),
    ]
    for grad in grads:
        close(grad.numpy(), want.grad, within=32, scale=np.abs(want.grad).max())


@pytest.mark.parametrize("lib", ["numpy", "no_x64", "torch_generic"], indirect=True)
def test_a_weight_far_below_the_largest_does_not_become_zero(lib):
    """Its row is present, and says so where it is NaN."""
    x, t = inputs("cross_entropy", (ROWS, CLASSES)), lib.like(labels(ROWS, CLASSES))
    x[1] = np.nan
    weights = lib.array([2.0**120, 2.0**-125, 1.0, 0.0, 1.5])
    assert np.isnan(lib.host(xloss.cross_entropy(lib.array(x), t, sample_weight=weights)))


@pytest.mark.parametrize("lib", ["numpy", "strict"], indirect=True)
@pytest.mark.parametrize("power", [-300, 300])
def test_a_float64_normalizer_may_be_far_from_the_weights(lib, power):
    x, t = inputs("cross_entropy", (ROWS, CLASSES)), labels(ROWS, CLASSES)
    want = expected("cross_entropy", x, t, sample_weight=ROW_WEIGHT, reduction="sum").value
    weights = lib.array(ROW_WEIGHT * 2.0**200, "float64")
    for normalizer in (2.0**power, lib.array(2.0**power, "float64")):
        options = {"sample_weight": weights, "normalizer": normalizer}
        got = xloss.cross_entropy(lib.array(x, "float64"), lib.like(t), **options)
        close(np.ldexp(lib.host(got), power - 200), want, "float64")
