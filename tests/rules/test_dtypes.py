"""Arithmetic and loss in float32 at least, gradients in their argument's dtype, exact sums."""

import math

import numpy as np
import pytest

import xloss
from expected import CLASS, LOSSES, close, expected, inputs, loss, shape, soft, targets
from libraries import FLOATS, across

SMALL = ("float16", "bfloat16")


def widened(lib, x) -> np.ndarray:
    """What an array holds, exactly."""
    return lib.host(x).astype(np.float64)


@across(LOSSES, kinds=FLOATS)
def test_the_loss_is_float32_at_least_and_float64_for_float64(lib, name, kind):
    form = shape(name, 6, 5)
    x, t = lib.array(inputs(name, form), kind), lib.like(targets(name, form))
    for how in ("mean", "sum", "none"):
        got = lib.dtype_of(loss(name)(x, t, reduction=how))
        assert got == ("float64" if kind == "float64" else "float32"), how


@across(LOSSES, kinds=SMALL)
def test_16_bit_inputs_are_computed_in_float32(lib, name, kind):
    form = shape(name, 6, 5)
    x, t = lib.array(inputs(name, form), kind), lib.like(targets(name, form))
    want = expected(name, widened(lib, x), targets(name, form), reduction="none")
    value, gradient = xloss.value_and_grad(loss(name))(x, t, reduction="none")
    close(lib.host(value), want.rows)
    assert lib.dtype_of(gradient) == kind
    # Rounded once more, to the argument's dtype.
    close(lib.host(gradient), want.grad, kind, 1)


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
    for kind in ("float64", "float32"):
        other = lib.array(given.astype("float32"), kind)
        t = other if option == "targets" else lib.array(soft((6, 5)))
        rest = {} if option == "targets" else {option: other}
        value, gradient = xloss.value_and_grad(xloss.cross_entropy)(lib.array(x), t, **rest)
        assert lib.dtype_of(value) == lib.dtype_of(gradient) == "float32"
        results.append((lib.host(value), lib.host(gradient)))
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("option", ["weight", "sample_weight"])
def test_float64_weights_are_rounded_to_float32_logits(option):
    x, t = inputs("cross_entropy", (6, 5)).astype("f4"), soft((6, 5)).astype("f4")
    w = np.random.default_rng(0).uniform(0.5, 2, 5 if option == "weight" else 6)
    one = xloss.cross_entropy(x, t, reduction="none", **{option: w})
    other = xloss.cross_entropy(x, t, reduction="none", **{option: w.astype("f4")})
    np.testing.assert_array_equal(one, other)


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


@pytest.mark.parametrize("name", LOSSES)
def test_jax_with_64_bits_computes_float64(name):
    jax = pytest.importorskip("jax")
    form = shape(name, 6, 5)
    x, t = inputs(name, form), targets(name, form)
    want = expected(name, x, t)
    with jax.enable_x64(True):
        value, gradient = xloss.value_and_grad(loss(name))(
            jax.numpy.asarray(x), jax.numpy.asarray(t)
        )
        assert value.dtype == gradient.dtype == "float64"
    close(value, want.value, "float64")
    close(gradient, want.grad, "float64")


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


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("lib", ["numpy", "torch", "jax"], indirect=True)
def test_more_rows_than_16_bits_can_count(lib, kind):
    """A bfloat16 counter stops at 256, a float16 sum overflows at 65,504."""
    x = lib.array(np.zeros((70_001, 2)), kind)
    y = lib.array(np.zeros(70_001), "int32")
    value, gradient = xloss.value_and_grad(xloss.cross_entropy)(x, y)
    assert ulps_of_float32(float(value), math.log(2)) <= 1
    np.testing.assert_allclose(lib.host(gradient)[0], [-0.5 / 70_001, 0.5 / 70_001], rtol=0.02)
    total = xloss.cross_entropy(x, y, reduction="sum")
    assert ulps_of_float32(float(total), 70_001 * math.log(2)) <= 1
