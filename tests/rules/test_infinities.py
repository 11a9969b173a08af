"""0·log 0, masked classes, +inf, NaN: every mixture of them, against the oracle and by hand."""

from functools import cache
from itertools import product

import numpy as np
import pytest

import xloss
from expected import BINARY, CLASS, FROM_PROBS, close, expected, inputs, labels, loss, soft
from libraries import Library, across

INF, NAN = np.inf, np.nan
# Gaps of 60 and 120: a tail that float32 holds, and one that it cannot.
VALUES = {
    "cross_entropy": (-INF, -60, 0, 60, INF, NAN),
    "focal_loss": (-INF, -60, 0, 60, INF, NAN),
    "nll_loss": (-INF, -60, -1, 0),
    "log_loss": (0, 2**-20, 0.5, 1),
}
WEIGHT = np.array([1.0, 0.0, 2.0])
OPTIONS = {
    "plain": {},
    "weight": {"weight": WEIGHT},
    "smooth": {"label_smoothing": 0.25},
    "weight and smooth": {"weight": WEIGHT, "label_smoothing": 0.25},
    "all smooth": {"label_smoothing": 1.0},
    "softcap": {"softcap": 16.0},
    "z_loss": {"z_loss": 0.5},
    "eps": {"eps": 2**-10},
}
FOREIGN = {
    "cross_entropy": {"eps"},
    "focal_loss": {"eps", "z_loss"},
    "nll_loss": {"eps", "z_loss", "softcap"},
    "log_loss": {"z_loss", "softcap"},
}
SOFT = [(1, 0, 0), (0, 0, 1), (0.5, 0.5, 0), (0.25, 0.25, 0.5)]
CASES = [(n, o) for n in CLASS for o in OPTIONS if o not in FOREIGN[n]]
FEW = [("cross_entropy", "plain"), ("cross_entropy", "weight and smooth"), ("log_loss", "plain")]


@cache
def mixtures(name: str, option: str, soft_targets: bool):
    """Every row of three special values, with every target; and what the oracle says."""
    rows = list(product(VALUES[name], repeat=3))
    each = SOFT if soft_targets else range(3)
    x, t = (np.array(v) for v in zip(*product(rows, each), strict=True))
    return x.astype(float), t, expected(name, x, t, reduction="none", **OPTIONS[option])


def agrees(lib: Library, name: str, option: str, soft_targets: bool):
    x, t, want = mixtures(name, option, soft_targets)
    given = {k: lib.like(v) if k == "weight" else v for k, v in OPTIONS[option].items()}
    wanted = (want.grad, want.grad_targets) if soft_targets else (want.grad,)
    run = xloss.value_and_grad(loss(name), tuple(range(len(wanted))))
    rows, gradients = run(lib.like(x), lib.like(t), reduction="none", **given)
    rows = lib.host(rows)
    within = 24 if option == "softcap" else 8
    close(rows, want.rows, within=within)
    # Soft and smoothed targets: the gradient is a difference of two terms, each at most their sum.
    scale = 1.0 if soft_targets or "smooth" in option else 0.0
    for gradient, exact in zip(gradients, wanted, strict=True):
        gradient = lib.host(gradient)
        if name != "log_loss":  # the slope 1/p may overflow
            assert np.isfinite(gradient[np.isfinite(rows)]).all()
        close(gradient, exact, within=within, scale=scale)


@pytest.mark.parametrize("soft_targets", [False, True], ids=["index", "soft"])
@pytest.mark.parametrize(("name", "option"), CASES, ids=[f"{n}-{o}" for n, o in CASES])
@pytest.mark.parametrize("lib", ["numpy"], indirect=True)
def test_every_mixture_of_special_values(lib, name, option, soft_targets):
    agrees(lib, name, option, soft_targets)


@pytest.mark.parametrize("soft_targets", [False, True], ids=["index", "soft"])
@pytest.mark.parametrize(("name", "option"), FEW, ids=[f"{n}-{o}" for n, o in FEW])
def test_some_mixtures_of_special_values_everywhere(lib, name, option, soft_targets):
    agrees(lib, name, option, soft_targets)


BINARY_OPTIONS = {
    "binary_cross_entropy_with_logits": ({}, {"label_smoothing": 0.25}),
    "binary_cross_entropy": ({}, {"label_smoothing": 0.25}, {"eps": 2**-10}),
    "sigmoid_focal_loss": (
        {"gamma": 2.0},
        {"gamma": 0.0},
        {"gamma": 1.5, "alpha": 0.25},
        {"alpha": 0.0},
    ),
}


@across(BINARY)
def test_every_binary_mixture_of_special_values(lib, name):
    values = (0, 2**-20, 0.5, 1) if name in FROM_PROBS else (-INF, -60, 0, 60, INF)
    x, t = (np.array(v) for v in zip(*product((*values, NAN), (0, 0.25, 1, NAN)), strict=True))
    for options in BINARY_OPTIONS[name][: 1 if lib.name == "jax" else None]:
        want = expected(name, x, t, reduction="none", **options)
        run = xloss.value_and_grad(loss(name), (0, 1))
        rows, gradients = run(lib.like(x), lib.like(t), reduction="none", **options)
        lost = 64 * lib.lost  # (1-p)^γ is subnormal at 60 and γ 1.5, and multiplied by 60
        close(lib.host(rows), want.rows, lost=lost)
        there = ~np.isnan(t)  # what a gradient to a NaN is, is nowhere said
        for got, exact in zip(gradients, (want.grad, want.grad_targets), strict=True):
            exact = [e for e, k in zip(exact, there, strict=True) if k]
            close(lib.host(got)[there], exact, lost=lost)


@pytest.mark.parametrize("log_target", [False, True])
def test_every_divergence_of_special_values(lib, log_target):
    given = (-INF, -2.0, 0.0) if log_target else (0, 0.25, 1)
    pairs = list(product(product((-INF, -60, -1), repeat=2), product(given, repeat=2)))
    x, t = (np.array(v, float) for v in zip(*pairs, strict=True))
    options = {"log_target": log_target, "reduction": "none"}
    want = expected("kl_div", x, t, **options)
    rows, gradients = xloss.value_and_grad(xloss.kl_div, (0, 1))(
        lib.like(x), lib.like(t), **options
    )
    close(lib.host(rows), want.rows)
    for got, exact in zip(gradients, (want.grad, want.grad_targets), strict=True):
        close(lib.host(got), exact)


@across(("cross_entropy", "focal_loss", "log_loss", "nll_loss"))
def test_a_masked_class_is_as_good_as_gone(lib, name):
    """u of the smoothing spreads over the possible classes only."""
    x, y = inputs(name, (6, 5)), labels(6, 4)
    x[:, 4] = 0 if name == "log_loss" else -INF
    options = {"label_smoothing": 0.25, "reduction": "mean"}
    want = expected(name, x[:, :4], y, **options)
    value, gradient = xloss.value_and_grad(loss(name))(lib.like(x), lib.like(y), **options)
    close(lib.host(value), want.value)
    gradient = lib.host(gradient)
    assert not gradient[:, 4].any()
    close(gradient[:, :4], want.grad)


@across(("cross_entropy", "focal_loss"))
def test_a_softcap_lets_no_masked_class_back(lib, name):
    x, y = np.array([[0.0, 1.0, -INF], [-INF, 1.0, -INF]]), np.array([1, 1])
    got = lib.host(loss(name)(lib.like(x), lib.like(y), softcap=2.0, reduction="none"))
    close(got[:1], expected(name, x[:1, :2], y[:1], softcap=2.0).rows)
    assert got[1] == 0


@across(("cross_entropy", "focal_loss"))
def test_a_present_row_with_no_possible_class_is_nan_and_no_other(lib, name):
    x = inputs(name, (3, 4))
    x[1] = -INF
    for t in (labels(3, 4), soft((3, 4))):
        rows, gradient = xloss.value_and_grad(loss(name))(
            lib.like(x), lib.like(t), reduction="none"
        )
        assert np.isnan(lib.host(rows)).tolist() == [False, True, False]
        assert np.isnan(lib.host(gradient)).tolist() == [[False] * 4, [True] * 4, [False] * 4]


@across(CLASS)
def test_a_nan_is_nan_in_its_row_and_no_other(lib, name):
    x, y = inputs(name, (3, 4)), labels(3, 4)
    x[1, y[1]] = NAN
    rows, gradient = xloss.value_and_grad(loss(name))(lib.like(x), lib.like(y), reduction="none")
    assert np.isnan(lib.host(rows)).tolist() == [False, True, False]
    where = np.isnan(lib.host(gradient))
    assert not where[[0, 2]].any()
    # nll_loss is linear: its slope does not depend on x.
    assert where[1, y[1]] or name == "nll_loss"
    assert where[1].all() or name in ("nll_loss", "log_loss")


@across(("cross_entropy", "focal_loss"))
def test_infinite_logits_share_the_whole_probability(lib, name):
    x, y = np.array([[INF, 0, INF, -INF], [INF, 60, 0, 1]]), np.array([0, 0])
    options = {"gamma": 0.0} if name == "focal_loss" else {}
    rows, gradient = xloss.value_and_grad(loss(name))(
        lib.like(x), lib.like(y), reduction="none", **options
    )
    np.testing.assert_allclose(lib.host(rows), [np.log(2), 0], rtol=1e-6, atol=0)
    np.testing.assert_array_equal(lib.host(gradient), [[-0.5, 0, 0.5, 0], [0, 0, 0, 0]])


@pytest.mark.parametrize("name", ["log_loss", "binary_cross_entropy"])
def test_a_probability_clipped_by_eps_has_gradient_zero(name):
    x = np.array([0.0, 0.001, 0.25, 0.875, 1.0])
    t = np.ones(5)
    x, t = (x[:, None], t[:, None]) if name == "log_loss" else (x, t)
    rows, gradient = xloss.value_and_grad(loss(name))(x, t, eps=0.125, reduction="none")
    np.testing.assert_allclose(rows, -np.log([0.125, 0.125, 0.25, 0.875, 0.875]), rtol=1e-15)
    assert (gradient.ravel() != 0).tolist() == [False, False, True, True, False]


def test_certainty_of_the_wrong_answer_costs_infinity():
    """PyTorch stops at 100."""
    assert xloss.binary_cross_entropy(np.array([0.0]), np.array([1.0])) == INF
    assert xloss.log_loss(np.array([0.0, 1.0]), np.array(0)) == INF
    assert xloss.nll_loss(np.array([-INF, 0.0]), np.array(0)) == INF
    assert xloss.cross_entropy(np.array([-INF, 0.0]), np.array(0)) == INF


def test_a_target_of_weight_zero_on_a_masked_class_is_absent(lib):
    x, t = np.array([[0.0, -INF, 1.0]]), np.array([[0.25, 0.5, 0.25]])
    rows = xloss.cross_entropy(lib.like(x), lib.like(t), weight=lib.like(WEIGHT), reduction="none")
    close(lib.host(rows), expected("cross_entropy", x, t, weight=WEIGHT).rows)
    assert np.isfinite(lib.host(rows)).all()


@pytest.mark.parametrize(
    ("name", "option"), [c for c in CASES if c[0] in ("cross_entropy", "focal_loss")]
)
def test_a_row_of_no_probability_is_nothing_beside_an_infinity(name, option):
    x = np.array([[-INF, 0.0, INF], [0.0, 1.0, -INF], [0.0, 1.0, 2.0]])
    rows, gradients = xloss.value_and_grad(loss(name), (0, 1))(
        x, np.zeros((3, 3)), reduction="none", **OPTIONS[option]
    )
    assert not rows.any()
    assert not gradients[0].any()
    assert np.isfinite(gradients[1]).all()


@pytest.mark.parametrize("lib", ["numpy", "strict", "torch"], indirect=True)
@pytest.mark.parametrize("name", CLASS)
def test_an_infinite_weight_is_nan_and_a_normalizer_of_zero_inf_without_a_warning(lib, name):
    x, y = lib.array(inputs(name, (2, 4))), lib.array([1, 2], "int32")
    infinite = ({"sample_weight": lib.array([INF, 1.0])}, {"weight": lib.array([1, INF, 1, 1])})
    for run in (xloss.value_and_grad(loss(name)), lambda *a, **k: (loss(name)(*a, **k),)):
        for given in infinite:
            assert np.isnan(lib.host(run(x, y, **given)[0]))
            assert lib.host(run(x, y, **given, reduction="sum")[0]) == INF
        assert lib.host(run(x, y, normalizer=0.0)[0]) == INF


@pytest.mark.parametrize("lib", ["numpy", "strict", "torch"], indirect=True)
def test_a_loss_beyond_float32_is_infinite_without_a_warning(lib):
    x = lib.array(np.full((4, 1), -3e38))
    y = lib.array(np.zeros(4), "int32")
    for run in (xloss.value_and_grad(xloss.nll_loss), lambda *a, **k: (xloss.nll_loss(*a, **k),)):
        assert lib.host(run(x, y, reduction="sum")[0]) == INF
        assert lib.host(run(x, y, normalizer=1.0)[0]) == INF
        assert lib.host(run(x, y)[0]) == np.float32(3e38)
        rows = lib.host(run(x, y, reduction="none", weight=lib.array([4.0]))[0])
        assert rows.tolist() == [INF] * 4


@pytest.mark.parametrize("name", FROM_PROBS)
def test_a_probability_below_0_is_nan_and_above_1_for_a_binary_loss(name):
    x, t = np.array([-0.5, 0.5, 1.5]), np.array([1.0, 1.0, 0.0])
    x, t = (x[:, None], t[:, None]) if name == "log_loss" else (x, t)
    rows = loss(name)(x, t, reduction="none")
    assert np.isnan(rows).tolist() == [True, False, name != "log_loss"]


@across(CLASS)
def test_a_class_of_weight_zero_has_no_share_of_an_infinite_mean(lib, name):
    x, t = inputs(name, (2, 3)), np.array([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]])
    x[0, 0] = 0 if name == "log_loss" else -INF
    want = expected(name, x, t, weight=WEIGHT)
    value, gradient = xloss.value_and_grad(loss(name), 1)(
        lib.like(x), lib.like(t), weight=lib.like(WEIGHT)
    )
    close(lib.host(value), want.value)
    gradient = lib.host(gradient)
    assert not gradient[:, 1].any()
    close(gradient, want.grad_targets)
