"""Row weight, row loss, mean, normalizer: the formulas of the contract, and what they imply."""

import numpy as np
import pytest

import xloss
from expected import (
    BINARY,
    CLASS,
    LOSSES,
    close,
    expected,
    inputs,
    labels,
    loss,
    shape,
    soft,
    targets,
)
from libraries import Library, across

WEIGHT = np.array([1.0, 2.5, 0.5, 0.0, 3.0])
ROWS = np.array([1.0, 0.5, 2.0, 0.25, 3.0, 0.75])

# One call of everything a loss has, so that a term forgotten in any of them shows.
FULL = {
    "cross_entropy": {"weight": WEIGHT, "label_smoothing": 0.125, "z_loss": 0.25, "softcap": 3.0},
    "focal_loss": {"weight": WEIGHT, "label_smoothing": 0.125, "softcap": 3.0, "gamma": 1.5},
    "nll_loss": {"weight": WEIGHT, "label_smoothing": 0.125},
    "log_loss": {"weight": WEIGHT, "label_smoothing": 0.125, "eps": 0.0625},
    "kl_div": {},
    "binary_cross_entropy_with_logits": {"label_smoothing": 0.125},
    "binary_cross_entropy": {"label_smoothing": 0.125, "eps": 0.0625},
    "sigmoid_focal_loss": {"gamma": 1.5, "alpha": 0.25},
}


def check(lib: Library, name: str, x, t, argument: int = 0, **options):
    """Value and gradient of a call against the oracle."""
    # The gradient to targets is a difference, here up to 16 times smaller than its two terms.
    within = 64 if argument else 8
    want = expected(name, x, t, **options)
    run = xloss.value_and_grad(loss(name), argument)
    value, gradient = run(lib.like(x), lib.like(t), **lib.given(options))
    close(lib.host(value), want.rows if options["reduction"] == "none" else want.value)
    close(lib.host(gradient), want.grad_targets if argument else want.grad, within=within)


@pytest.mark.parametrize("how", ["mean", "sum", "none"])
@across(LOSSES, jax=0)
def test_row_loss_and_reduction_are_the_formula(lib, name, how):
    form = shape(name, 6, 5)
    x, t = inputs(name, form), targets(name, form)
    check(lib, name, x, t, sample_weight=ROWS, reduction=how, **FULL[name])


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("lib", ["jax"], indirect=True)
def test_row_loss_and_reduction_are_the_formula_under_jit(lib, name):
    form = shape(name, 6, 5)
    x, t = inputs(name, form), targets(name, form)
    check(lib, name, x, t, sample_weight=ROWS, reduction="mean", **FULL[name])


@pytest.mark.parametrize("argument", [0, 1])
@across(CLASS)
def test_soft_targets_weigh_rows_and_classes_by_the_formula(lib, name, argument):
    x, t = inputs(name, (6, 5)), soft((6, 5)) * ROWS[::-1, None]
    check(lib, name, x, t, argument, sample_weight=ROWS, reduction="mean", **FULL[name])


@pytest.mark.parametrize("how", ["sum", "none"])
@pytest.mark.parametrize("name", CLASS)
@pytest.mark.parametrize("lib", ["numpy"], indirect=True)
def test_soft_targets_by_the_other_reductions(lib, name, how):
    x, t = inputs(name, (6, 5)), soft((6, 5)) * ROWS[::-1, None]
    for argument in (0, 1):
        check(lib, name, x, t, argument, sample_weight=ROWS, reduction=how, **FULL[name])


@pytest.mark.parametrize("lib", ["numpy"], indirect=True)
def test_pos_weight_multiplies_the_positive_term(lib):
    name = "binary_cross_entropy_with_logits"
    x, t = inputs(name, (6,)), targets(name, (6,))
    for pos_weight in (0.0, 0.5, 3.0):
        options = {"reduction": "mean", "label_smoothing": 0.125}
        want = expected(name, x, t, pos_weight=pos_weight, **options)
        run = xloss.value_and_grad(loss(name), (0, 1))
        value, (gradient, by_t) = run(x, t, pos_weight=np.array(pos_weight), **options)
        close(value, want.value, "float64")
        close(gradient, want.grad, "float64")
        close(by_t, want.grad_targets, "float64")


@across(CLASS)
def test_the_denominator_takes_the_targets_before_smoothing(lib, name):
    x, y = inputs(name, (6, 5)), labels(6, 5)
    options = {"weight": WEIGHT, "sample_weight": ROWS, "label_smoothing": 0.5}
    given = lib.given(options)
    total = lib.host(loss(name)(lib.like(x), lib.like(y), reduction="sum", **given))
    mean = lib.host(loss(name)(lib.like(x), lib.like(y), reduction="mean", **given))
    assert mean == pytest.approx(total / (ROWS * WEIGHT[y]).sum(), rel=1e-6)


def test_the_z_term_weighs_as_the_row_does(lib):
    x, y = inputs("cross_entropy", (6, 5)), labels(6, 5)
    lse = np.log(np.exp(x).sum(-1))
    options = {"weight": WEIGHT, "sample_weight": ROWS}
    rows = [
        lib.host(
            xloss.cross_entropy(
                lib.like(x), lib.like(y), reduction="none", z_loss=factor, **lib.given(options)
            )
        )
        for factor in (0.0, 2.0)
    ]
    np.testing.assert_allclose(rows[1] - rows[0], 2 * ROWS * WEIGHT[y] * lse**2, rtol=2e-6)


@across(CLASS)
def test_a_class_of_weight_zero_is_no_row(lib, name):
    x = inputs(name, (3, 5))
    value, gradient = xloss.value_and_grad(loss(name))(
        lib.like(x), lib.like(np.array([3, 1, 3])), weight=lib.like(WEIGHT)
    )
    want = expected(name, x[1:2], np.array([1]), weight=WEIGHT)
    close(lib.host(value), want.value)
    gradient = lib.host(gradient)
    assert not gradient[[0, 2]].any()
    close(gradient[1:2], want.grad)


@across(LOSSES, dask=2)
def test_normalizer_replaces_the_denominator(lib, name):
    form = shape(name, 6, 5)
    x, t = inputs(name, form), targets(name, form)
    want = expected(name, x, t, sample_weight=ROWS, normalizer=7)
    kinds = [kind for kind in ("float32", "float64") if lib.has(kind)]
    for divisor in (7, 7.0, *(lib.array(7.0, kind) for kind in kinds)):
        value, gradient = xloss.value_and_grad(loss(name))(
            lib.like(x), lib.like(t), sample_weight=lib.like(ROWS), normalizer=divisor
        )
        close(lib.host(value), want.value)
        close(lib.host(gradient), want.grad)


NO_ROW = {
    "where": {"where": np.zeros(6, bool)},
    "sample_weight": {"sample_weight": np.zeros(6)},
    "normalizer": {"where": np.zeros(6, bool), "normalizer": 3.0},
    "normalizer of zero": {"where": np.zeros(6, bool), "normalizer": 0.0},
}
NO_WEIGHT = (
    {"weight": np.zeros(5)},
    {"weight": np.array([0, 0, 0, 0, 1.0]), "label_smoothing": 0.5},
    {"weight": np.zeros(5), "z_loss": 0.5},
)


def nothing(lib: Library, name: str, t, options: dict):
    """Assert that value and gradients are exactly zero."""
    x = lib.like(inputs(name, shape(name, 6, 5)))
    arguments = (0, 1) if t.dtype.kind == "f" else (0,)
    value, gradients = xloss.value_and_grad(loss(name), arguments)(
        x, lib.like(t), **lib.given(options)
    )
    assert lib.host(value) == 0
    for gradient in gradients:
        assert not lib.host(gradient).any()


@pytest.mark.parametrize("why", NO_ROW)
@across(LOSSES, dask=2)
def test_the_mean_of_no_row_is_zero_with_gradient_zero(lib, name, why):
    nothing(lib, name, targets(name, shape(name, 6, 5)), NO_ROW[why])


@across(CLASS)
def test_the_mean_of_no_weight_is_zero_with_gradient_zero(lib, name):
    for options in NO_WEIGHT[: 3 if name == "cross_entropy" else 2]:
        nothing(lib, name, labels(6, 4), options)


@pytest.mark.parametrize("lib", ["numpy", "torch", "jax"], indirect=True)
def test_the_mean_of_empty_targets_is_zero_with_gradient_zero(lib):
    nothing(lib, "cross_entropy", np.zeros((6, 5)), {})


@across(CLASS)
def test_the_mean_of_ignored_labels_only_is_zero(lib, name):
    value, gradient = xloss.value_and_grad(loss(name))(
        lib.like(inputs(name, (6, 5))), lib.like(np.full(6, -100))
    )
    assert lib.host(value) == 0
    assert not lib.host(gradient).any()


@pytest.mark.parametrize("power", [-20, 30])
@across(LOSSES, dask=2)
def test_scaling_all_weights_changes_no_mean(lib, name, power):
    form = shape(name, 6, 5)
    x, t = lib.like(inputs(name, form)), lib.like(targets(name, form))
    option, w = ("weight", WEIGHT) if name in CLASS else ("sample_weight", ROWS)
    run = xloss.value_and_grad(loss(name))
    one = run(x, t, **{option: lib.like(w)})
    other = run(x, t, **{option: lib.like(w * 2.0**power)})
    for a, b in zip(one, other, strict=True):  # a power of two changes no bit
        np.testing.assert_array_equal(lib.host(a), lib.host(b))


SHAPES = [(), (1,), (4,), (1, 1), (3, 1), (1, 4), (3, 4)]


@pytest.mark.parametrize("kind", ["sample_weight", "where"])
@across(LOSSES, jax=0, dask=1)
def test_sample_weight_and_where_broadcast_to_the_rows(lib, name, kind):
    form = (3, 4) if name in BINARY else (3, 4, 5)
    x = inputs(name, form)
    t = labels(12, 5).reshape(3, 4) if name in CLASS else targets(name, form)
    for small in SHAPES:
        given = np.resize(ROWS > 0.6 if kind == "where" else ROWS, small)
        full = np.broadcast_to(given, (3, 4))
        run = xloss.value_and_grad(loss(name))
        for how in ("mean", "none"):
            one = run(lib.like(x), lib.like(t), reduction=how, **{kind: lib.like(given)})
            other = run(lib.like(x), lib.like(t), reduction=how, **{kind: lib.like(full.copy())})
            for a, b in zip(one, other, strict=True):
                np.testing.assert_array_equal(lib.host(a), lib.host(b))


@pytest.mark.parametrize("small", [(5,), (2,), (3,), (4, 1), (2, 4), (1, 3, 4), (3, 4, 1)], ids=str)
@pytest.mark.parametrize("kind", ["sample_weight", "where"])
@pytest.mark.parametrize("name", LOSSES)
def test_sample_weight_and_where_never_enlarge_the_rows(name, kind, small):
    form = (3, 4) if name in BINARY else (3, 4, 5)
    t = labels(12, 5).reshape(3, 4) if name in CLASS else targets(name, form)
    given = np.ones(small, bool if kind == "where" else float)
    want = rf"^{kind}: shape .* does not broadcast to the row shape \(3, 4\)"
    with pytest.raises(ValueError, match=want):
        loss(name)(inputs(name, form), t, **{kind: given})


def test_a_single_row_is_not_enlarged_either():
    x, y = inputs("cross_entropy", (1, 5)), labels(1, 5)
    with pytest.raises(ValueError, match=r"^sample_weight: .*row shape \(1,\)"):
        xloss.cross_entropy(x, y, sample_weight=np.ones(6))
    with pytest.raises(ValueError, match=r"^where: .*row shape \(\)"):
        xloss.cross_entropy(x[0], y[0], where=np.ones(6, bool))
