"""What is read of given probabilities, where clipping ends, and (1-p)^γ where 1-p is subnormal."""

import numpy as np
import pytest

import xloss
from expected import loss
from libraries import across

NAN, INF = np.nan, np.inf
GIVEN = {"nll_loss": [-1.0, -2.0, -3.0], "log_loss": [0.5, 0.25, 0.25]}


@across(tuple(GIVEN))
def test_only_what_a_term_is_made_of_is_read(lib, name):
    x = np.array([[NAN, *GIVEN[name][1:]], GIVEN[name]])
    for t in (np.array([1, 0]), np.array([[0.0, 1, 0], [1, 0, 0]])):
        rows, gradient = xloss.value_and_grad(loss(name))(
            lib.like(x), lib.like(t), reduction="none"
        )
        assert np.isfinite(lib.host(rows)).all()
        assert np.isfinite(lib.host(gradient)).all()
        assert lib.host(gradient)[0, 0] == 0


def test_a_divergence_reads_no_class_of_target_0(lib):
    x, t = lib.like(np.array([[NAN, -1.0]])), lib.like(np.array([[0.0, 1.0]]))
    rows, gradients = xloss.value_and_grad(xloss.kl_div, (0, 1))(x, t, reduction="none")
    assert lib.host(rows).tolist() == [1.0]
    assert [lib.host(g).tolist() for g in gradients] == [[[0.0, -1.0]], [[0.0, 2.0]]]


@across(tuple(GIVEN))
def test_a_label_of_weight_0_is_not_read_as_its_one_hot_row_is_not(lib, name):
    """A class of weight 0 is an absent term, whatever stands in it."""
    w = lib.like(np.array([0.0, 1.0, 2.0]))
    for entry in (NAN, 0.0 if name == "log_loss" else -INF):
        x = lib.like(np.array([[entry, *GIVEN[name][1:]], GIVEN[name]]))
        got = [
            xloss.value_and_grad(loss(name))(x, lib.like(t), weight=w)
            for t in (np.array([0, 1]), np.array([[1.0, 0, 0], [0, 1, 0]]))
        ]
        for value, gradient in got:
            want = -GIVEN[name][1] if name == "nll_loss" else -np.log(GIVEN[name][1])
            np.testing.assert_allclose(lib.host(value), want, rtol=1e-6)
            assert (lib.host(gradient) == 0).tolist() == [[True] * 3, [True, False, True]]


@pytest.mark.parametrize("eps", [1e-7, 1e-15])
@across(("binary_cross_entropy",))
def test_clipping_ends_at_eps_though_1_minus_eps_be_rounded(lib, name, eps):
    """In float32 1 - 1e-7 is 1 - 1.19e-7, whose log(1-p) is 1 % off, and 1 - 1e-15 is 1."""
    x, t = np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.0, 1.0, 0.0, 1.0])
    run = xloss.value_and_grad(loss(name), (0, 1))
    rows, (gradient, to_targets) = run(lib.like(x), lib.like(t), eps=eps, reduction="none")
    near, far = -np.log1p(-eps), -np.log(eps)
    np.testing.assert_allclose(lib.host(rows), [near, far, far, near], rtol=3e-7)
    assert not lib.host(gradient).any()
    odds = far - near
    np.testing.assert_allclose(lib.host(to_targets), [odds, odds, -odds, -odds], rtol=3e-7)


@across(("log_loss",))
def test_clipping_of_classes_ends_at_eps_too(lib, name):
    x, y = np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0, 1])
    rows, gradient = xloss.value_and_grad(loss(name))(
        lib.like(x), lib.like(y), eps=1e-15, reduction="none"
    )
    np.testing.assert_allclose(lib.host(rows), [1e-15, -np.log(1e-15)], rtol=3e-7)
    assert not lib.host(gradient).any()


@across(("log_loss", "binary_cross_entropy"))
def test_clipping_leaves_a_nan_a_nan(lib, name):
    x, t = (np.array([[NAN, 0.5]]), np.array([0])) if name == "log_loss" else ([NAN], [1.0])
    value, gradient = xloss.value_and_grad(loss(name))(
        lib.like(np.array(x)), lib.like(np.array(t)), eps=0.125
    )
    assert np.isnan(lib.host(value))
    assert np.isnan(np.ravel(lib.host(gradient))[0])


def test_eps_of_0_leaves_no_class_of_probability_0_a_share():
    got = xloss.log_loss(np.array([0.5, 0.5, 0.0]), np.array(0), eps=0.0, label_smoothing=0.25)
    np.testing.assert_allclose(got, np.log(2), rtol=1e-15)


def test_the_gradient_at_what_is_no_probability_is_nan(lib):
    """1/p of p = 1.5 is as finite as a gradient can be."""
    x, t = np.array([1.5, 1.5, -0.25, -0.25, INF]), np.array([0.0, 1.0, 0.0, 1.0, 1.0])
    rows, gradients = xloss.value_and_grad(xloss.binary_cross_entropy, (0, 1))(
        lib.like(x), lib.like(t), reduction="none"
    )
    for got in (rows, *gradients):
        assert np.isnan(lib.host(got)).all()


def test_a_power_below_1_of_a_subnormal_1_minus_p_is_finite(lib):
    """(1-p)^(γ-1) of 1-p = 1e-43 and γ = 0.01 is beyond float32."""
    run = xloss.value_and_grad(xloss.sigmoid_focal_loss, (0, 1))
    x = lib.array([[99.0, -99.0]], "float32")
    for alpha in (None, 0.25):
        rows, gradients = run(
            x, lib.array([[1.0, 0.0]], "float32"), gamma=0.01, alpha=alpha, reduction="none"
        )
        for got in (rows, *gradients):
            assert np.isfinite(lib.host(got)).all()
    one_hot = lib.array([[1.0, 0.0]], "float32")
    _, gradients = xloss.value_and_grad(xloss.focal_loss, (0, 1))(x, one_hot, gamma=0.01)
    assert all(np.isfinite(lib.host(got)).all() for got in gradients)


@pytest.mark.parametrize("lib", ["torch", "jax"], indirect=True)
@pytest.mark.parametrize("name", ["cross_entropy", "focal_loss"])
@pytest.mark.parametrize("soft", [False, True])
def test_autodiff_has_no_nan_where_no_row_weighs_anything(lib, name, soft):
    """An upstream of 0 times a slope of NaN is NaN; the closed form gives 0."""
    x = np.array([[NAN, 1.0, 2.0], [0.0, 1.0, 2.0]])
    t = np.zeros((2, 3)) if soft else np.array([1, 1])
    options = {} if soft else {"weight": lib.like(np.array([1.0, 0.0, 1.0]))}
    targets = lib.like(t)
    if lib.name == "jax":
        import jax

        value, gradient = jax.value_and_grad(lambda v: loss(name)(v, targets, **options))(
            lib.like(x)
        )
    else:
        leaf = lib.like(x).requires_grad_()
        value = loss(name)(leaf, targets, **options)
        value.backward()
        value, gradient = value.detach(), leaf.grad
    assert lib.host(value) == 0
    assert not lib.host(gradient).any()
