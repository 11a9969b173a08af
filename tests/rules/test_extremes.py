"""Where an intermediate number leaves the floats and the result does not; expected by hand."""

from math import inf, isnan, log, nan

import numpy as np
import pytest

import xloss
from libraries import Library
from xloss import use_engine, value_and_grad

MOST = float(np.finfo(np.float32).max)
FLUSHING = {"jax", "tensorflow_generic"}  # XLA takes a subnormal for 0


def near(got: object, want: object, within: float = 1e-6) -> None:
    np.testing.assert_allclose(np.asarray(got, dtype=float), want, rtol=within, atol=1e-44)


def run(lib: Library, name: str, x: object, t: object, wanted: object = 0, **options: object):
    loss = getattr(xloss, name)
    x, t = lib.array(x), t if isinstance(t, np.ndarray) else lib.array(t)
    value, grads = value_and_grad(loss, wanted)(x, t, reduction="none", **options)
    read = lib.host
    return read(value), tuple(map(read, grads)) if isinstance(grads, tuple) else read(grads)


# Logits z beyond max/γ, of which the row is (1-t)^γ (1-t) |z| and its slope (1-t)^(γ+1), or with t
# for 1-t on the other side.
@pytest.mark.parametrize(("z", "t"), [(3e38, 0.25), (-3e38, 0.25), (MOST, 0.5), (-MOST, 1e-10)])
def test_sigmoid_focal_loss_of_a_logit_beyond_the_largest_number_over_gamma(lib, z, t):
    away = float(np.float32(1 - t)) if z > 0 else float(np.float32(t))
    value, grad = run(lib, "sigmoid_focal_loss", [z], [t])
    near(value, away**3 * abs(z))
    near(grad, [away**3 * np.sign(z)])


def test_sigmoid_focal_loss_to_a_target_of_a_logit_beyond_it(lib):
    # d/dt (1-t)³ z = -3 (1-t)² z
    _, (_, grad) = run(lib, "sigmoid_focal_loss", [1e38], [0.75], (0, 1))
    near(grad, [-3 * 0.0625 * 1e38])


def test_kl_div_of_a_log_target_that_underflows_against_a_class_of_probability_0(lib):
    value, (_, grad) = run(lib, "kl_div", [[-inf, 0]], [[-110.0, -inf]], (0, 1), log_target=True)
    assert value == inf
    assert grad[0, 0] == inf
    assert grad[0, 1] == 0  # absent


def test_kl_div_of_a_log_target_that_underflows_against_a_large_gap(lib):
    # e^-110 · (3e38 - 110), and not 0: the product is a normal number.
    value, (grad, _) = run(lib, "kl_div", [[-3e38, 0]], [[-110.0, 0.0]], (0, 1), log_target=True)
    near(value, [np.exp(-110.0) * 3e38], 1e-5)
    near(grad, [[-0.0, -1.0]])


@pytest.mark.parametrize("target", ["label", "soft"])
def test_log_loss_slope_where_1_over_p_overflows_and_the_slope_does_not(lib, target):
    if lib.name in FLUSHING or lib.name in ("cupy", "standin", "cuda"):
        pytest.skip("a subnormal probability is 0 there, of infinite loss")
    p = float(np.float32(1e-40))
    if target == "soft":
        _, grad = run(lib, "log_loss", [[p, 1]], [[1e-10, 0.0]])
        near(grad[0, 0], -float(np.float32(1e-10)) / p)
        return
    labels = lib.array([0], "int32")
    weight = lib.array([1e-10])
    probs = lib.array([[p, 1]])
    run_ = value_and_grad(xloss.log_loss)
    _, grad = run_(probs, labels, reduction="sum", sample_weight=weight)
    near(lib.host(grad)[0, 0], -float(np.float32(1e-10)) / p)


def test_a_zero_of_either_sign_has_the_same_infinite_slope(lib):
    _, grad = run(lib, "log_loss", [[-0.0, 0.0]], [[0.5, 0.5]])
    assert grad.tolist() == [[-inf, -inf]]
    _, grad = run(lib, "binary_cross_entropy", [-0.0, -0.0, 0.0], [1.0, 0.5, 1.0])
    assert grad.tolist() == [-inf, -inf, -inf]


def test_a_negative_probability_is_nan_in_the_value_and_in_its_own_slope(lib):
    value, grad = run(lib, "log_loss", [[-0.5, 0.5, 1], [0.5, 0.25, 0.25]], [[0.5, 0.5, 0]] * 2)
    assert isnan(value[0])
    near(value[1], -0.5 * log(0.5) - 0.5 * log(0.25))
    assert isnan(grad[0, 0])
    near(grad[:, 1:], [[-1, 0], [-2, 0]])
    value, grad = run(lib, "binary_cross_entropy", [-0.5, 1.5], [0.0, 1.0])
    assert np.isnan(value).all()
    assert np.isnan(grad).all()
    value, grad = run(lib, "kl_div", [[-1.0, -2.0]], [[-0.5, 0.5]])
    assert isnan(value[0])
    assert isnan(grad[0, 0])
    assert grad[0, 1] == -0.5


def test_a_negative_probability_under_a_label_is_nan_and_elsewhere_it_is_not_read(lib):
    probs, labels = lib.array([[-0.5, 0.5], [-0.5, 0.5]]), lib.array([0, 1], "int32")
    value, grad = value_and_grad(xloss.log_loss)(probs, labels, reduction="none")
    value, grad = lib.host(value), lib.host(grad)
    assert isnan(value[0])
    near(value[1], log(2))
    assert isnan(grad[0, 0])
    assert grad[1].tolist() == [0, -2]


@pytest.mark.parametrize("soft", [False, True])
def test_validate_refuses_a_negative_probability_of_a_present_row(lib, soft):
    if lib.name == "standin":
        pytest.skip("its arrays refuse to be read, as validate=True asks")
    probs = lib.array([[0.5, 0.5], [1.5, -0.5]])
    targets = lib.array([[1, 0], [1, 0]]) if soft else lib.array([0, 0], "int32")

    def loss(**options):
        return lib.host(xloss.log_loss(probs, targets, validate=True, **options))

    with pytest.raises(ValueError, match=r"probs: negative at position \(1, 1\)"):
        loss()
    near(loss(where=lib.array([True, False], "bool")), log(2))


# Z = λ lse² of the row is there though nothing weighs it: lse = log(1 + e).
def test_the_gradient_to_a_soft_row_of_zeros_has_the_z_term(lib):
    lse = np.log1p(np.exp(1.0))
    want = lse - np.array([0, 1]) + 0.125 * lse**2
    _, (_, grad) = run(lib, "cross_entropy", [[0, 1]], [[0, 0]], (0, 1), z_loss=0.125)
    near(grad, [want], 3e-6)
    # Of a mean over it and a row of weight 1, of loss L: less L for the weight, W = 1.
    x, t = lib.array([[0, 1], [0, 1]]), lib.array([[0, 0], [0, 1]])
    _, grad = value_and_grad(xloss.cross_entropy, 1)(x, t, z_loss=0.125)
    np.testing.assert_allclose(lib.host(grad), [want - want[1]] * 2, rtol=3e-6, atol=2e-7)


@pytest.mark.parametrize("classes", [2, 96, 97, 5000])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("engine", ["generic", "cpu"])
def test_rows_whose_sum_overflows_sum_to_infinity(classes, reduction, engine):
    if engine == "cpu" and xloss.engines()["cpu"] is not None:
        pytest.skip(str(xloss.engines()["cpu"]))
    z = np.zeros((3, classes))
    z[:, 0] = np.finfo(np.float64).max
    with use_engine(engine):
        got = xloss.cross_entropy(z, np.array([1, 1, 1]), reduction=reduction)
    assert got == inf


@pytest.mark.parametrize("count", [2, 16, 300])
def test_rows_of_both_signs_that_overflow_on_the_way_are_not_nan(lib, count):
    kind = "float64" if lib.has("float64") else "float32"
    most = float(np.finfo(kind).max)
    rows = np.resize([most, most, -most, -most], (count, 1)) * -1
    rows[-1] = -most if count % 4 else most
    units = -np.sum(np.sign(rows))  # what is left of them all
    want = units * most if abs(units) < 2 else units * inf
    labels = lib.array(np.zeros(count), "int32")
    with np.errstate(all="ignore"):  # Dask sums by NumPy's own sum, which says so
        got = lib.host(xloss.nll_loss(lib.array(rows, kind), labels, reduction="sum"))
    assert float(got) == want


def test_a_nan_row_is_still_a_nan_sum(lib):
    got = xloss.nll_loss(lib.array([[nan], [1.0]]), lib.array([0, 0], "int32"))
    assert isnan(float(lib.host(got)))
