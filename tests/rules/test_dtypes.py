"""The logits' dtype decides, a gradient has its argument's, and sums over rows lose nothing.

That results are in float32 at least is judged in every case of the suite.
"""

import math

import numpy as np
import pytest

import xloss
from expected import CLASS, close, expected, inputs, loss, shape, soft, targets
from libraries import FLOATS, across


@across(("cross_entropy", "kl_div", "binary_cross_entropy_with_logits"), kinds=FLOATS)
def test_each_gradient_has_the_dtype_of_its_argument(lib, name, kind):
    form = shape(name, 6, 5)
    t = soft(form) if name in CLASS else targets(name, form)
    for x_kind, t_kind in ((kind, "float32"), ("float32", kind)):
        x, y = lib.array(inputs(name, form), x_kind), lib.array(t, t_kind)
        _, (gx, gt) = xloss.value_and_grad(loss(name), (0, 1))(x, y)
        assert lib.dtype_of(gx) == x_kind
        assert lib.dtype_of(gt) == t_kind
        assert gx.shape == gt.shape == x.shape


@pytest.mark.parametrize("option", ["weight", "sample_weight", "targets", "normalizer"])
@pytest.mark.parametrize("lib", ["numpy", "strict", "torch"], indirect=True)
def test_the_logits_dtype_decides_and_everything_else_is_cast_to_it(lib, option):
    name, third = "cross_entropy", 1 / 3
    x = inputs(name, (6, 5))
    given = {
        "weight": np.full(5, third),
        "sample_weight": np.linspace(third, 2, 6),
        "normalizer": np.array(16.0),
        "targets": np.full((6, 5), third),
    }[option]
    results = []
    for kind in ("float64", "float32"):  # rounded here, or by the loss
        other = lib.array(given, kind)
        t = other if option == "targets" else lib.array(soft((6, 5)))
        rest = {} if option == "targets" else {option: other}
        value, gradient = xloss.value_and_grad(xloss.cross_entropy)(lib.array(x), t, **rest)
        assert lib.dtype_of(value) == lib.dtype_of(gradient) == "float32"
        results.append((lib.host(value), lib.host(gradient)))
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", ["int64", "int32", "uint8"])
@pytest.mark.parametrize("lib", ["numpy", "strict", "torch"], indirect=True)
def test_integer_weights_count(lib, kind):
    x, y, s = inputs("cross_entropy", (4, 5)), np.arange(4), np.array([1, 0, 3, 2])
    w = np.array([3, 1, 0, 2, 5])
    want = expected("cross_entropy", x, y, sample_weight=s, weight=w)
    got = xloss.cross_entropy(
        lib.array(x), lib.like(y), sample_weight=lib.array(s, kind), weight=lib.array(w, kind)
    )
    close(lib.host(got), want.value)


MILLIONS = 10_000_000


@pytest.fixture(scope="module")
def many() -> np.ndarray:
    """10^7 losses over seven orders of magnitude."""
    rng = np.random.default_rng(0)
    return np.exp(rng.uniform(-8, 8, MILLIONS)).astype(np.float32)


def ulps_of_float32(got: float, want: float) -> float:
    return abs(got - want) / float(np.spacing(np.float32(want)))


@pytest.mark.parametrize("lib", ["numpy", "torch", "torch_generic", "jax"], indirect=True)
def test_ten_million_rows_sum_to_4_ulp(lib, many):
    """nll_loss of one class: each row's loss is an input as it stands, so fsum knows the sum."""
    x = lib.array(-many[:, None])
    y = lib.array(np.zeros(MILLIONS), "int32")
    total = lib.host(xloss.nll_loss(x, y, reduction="sum"))
    assert total.dtype == np.float32
    assert ulps_of_float32(float(total), math.fsum(many)) <= 4


@pytest.mark.parametrize("lib", ["numpy", "torch", "jax"], indirect=True)
def test_ten_million_weights_divide_to_4_ulp(lib, many):
    """Losses of 1 and 0 by turns: the mean is the share of the first."""
    x = np.zeros((MILLIONS, 1), np.float32)
    x[::2] = -1
    y = lib.array(np.zeros(MILLIONS), "int32")
    mean = lib.host(xloss.nll_loss(lib.array(x), y, sample_weight=lib.array(many)))
    assert ulps_of_float32(float(mean), math.fsum(many[::2]) / math.fsum(many)) <= 4
