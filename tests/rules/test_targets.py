"""Targets: what makes them class indices or probabilities, in any dtype, never wrapped."""

import numpy as np
import pytest

import xloss
from expected import (
    BINARY,
    CLASS,
    SOFT_ONLY,
    close,
    expected,
    inputs,
    labels,
    loss,
    shape,
    soft,
    targets,
)
from libraries import FLOATS, SIGNED, UNSIGNED, Library, across

INTEGERS = SIGNED + UNSIGNED


def both(lib: Library, name: str, x, t, **options):
    """Value and gradient of a loss, on the host."""
    value, gradient = xloss.value_and_grad(loss(name))(x, t, **options)
    return lib.host(value), lib.host(gradient)


@across(CLASS, dask=2)
def test_labels_of_any_integer_dtype_are_class_indices(lib, name):
    x, y = inputs(name, (6, 5)), labels(6, 5)
    want = expected(name, x, y)
    for kind in INTEGERS:
        if lib.has(kind):
            value, gradient = both(lib, name, lib.array(x), lib.array(y, kind))
            close(value, want.value)
            close(gradient, want.grad)


@across(CLASS, dask=2)
def test_floating_targets_of_any_dtype_are_probabilities(lib, name):
    x, t = inputs(name, (6, 5)), soft((6, 5))
    want = expected(name, x, t)
    for kind in FLOATS:
        if lib.has(kind):
            value, gradient = both(lib, name, lib.array(x), lib.array(t, kind))
            close(value, want.value)
            close(gradient, want.grad)


def test_a_float_of_whole_numbers_is_still_probabilities():
    x = inputs("cross_entropy", (2, 3))
    with pytest.raises(ValueError, match="class indices must have an integer dtype"):
        xloss.cross_entropy(x, np.array([0.0, 2.0]))


def test_uint8_156_is_not_minus_100(lib):
    x, y = inputs("cross_entropy", (2, 200)), np.array([156, 3])
    got = xloss.cross_entropy(lib.array(x), lib.array(y, "uint8"), reduction="none")
    close(lib.host(got), expected("cross_entropy", x, y).rows)
    assert lib.host(got)[0] > 0


@across(kinds=("uint16", "uint32", "uint64"))
def test_the_unsigned_twin_of_minus_100_is_bad_and_not_ignored(lib, kind):
    bits = np.iinfo(kind).bits
    x, y = lib.array(np.zeros((2, 3))), lib.array([2**bits - 100, 0], kind)
    if lib.reads:
        with pytest.raises(IndexError, match=rf"label {2**bits - 100} at position \(0,\)"):
            xloss.cross_entropy(x, y)
    rows = lib.host(xloss.cross_entropy(x, y, reduction="none", validate=False))
    assert np.isnan(rows).tolist() == [True, False]


@across(kinds=("int8", "uint8", "uint32", "uint64"))
def test_ignore_index_is_compared_in_the_labels_own_dtype(lib, kind):
    ignored = int(np.iinfo(kind).max) - 99 if kind != "int8" else -100
    x = inputs("cross_entropy", (3, 200))
    y = lib.array([ignored, 7, 9], kind)
    got = lib.host(xloss.cross_entropy(lib.array(x), y, ignore_index=ignored, reduction="none"))
    assert got[0] == 0
    close(got[1:], expected("cross_entropy", x[1:], np.array([7, 9])).rows)


@pytest.mark.parametrize("ignored", [-100, -1, 256, 2**64 - 100, -(2**80)])
def test_an_ignore_index_the_dtype_cannot_hold_ignores_nothing(lib, ignored):
    x, y = inputs("cross_entropy", (4, 256)), np.array([156, 255, 0, 1])
    got = xloss.cross_entropy(lib.array(x), lib.array(y, "uint8"), ignore_index=ignored)
    close(lib.host(got), expected("cross_entropy", x, y, ignore_index=None).value)


def test_more_classes_than_the_labels_dtype_can_count(lib):
    x, y = inputs("cross_entropy", (3, 200)), np.array([127, 0, 99])
    got = xloss.cross_entropy(lib.array(x), lib.array(y, "int8"))
    close(lib.host(got), expected("cross_entropy", x, y).value)


@pytest.mark.parametrize("value", [2**32, 2**32 + 1, 2**63 - 1, -(2**32)])
@across(kinds=("int64",))
def test_a_label_is_narrowed_only_after_its_range_is_tested(lib, kind, value):
    x, y = lib.array(np.zeros((2, 3))), lib.array([0, value], kind)
    rows = lib.host(xloss.cross_entropy(x, y, reduction="none", validate=False))
    assert np.isnan(rows).tolist() == [False, True]


@across(CLASS)
def test_one_dimensional_logits_take_a_label_of_no_dimension(lib, name):
    x = inputs(name, (1, 5))
    for t in (np.array(3), soft((5,))):
        want = expected(name, x, t[None])
        value, gradient = both(lib, name, lib.array(x[0]), lib.like(t), reduction="none")
        assert value.shape == ()
        close(value, want.rows[0])
        close(gradient[None], want.grad)


def test_a_numpy_scalar_is_an_array_of_no_dimension():
    x = inputs("cross_entropy", (1, 5))
    value = xloss.cross_entropy(x[0], np.uint8(3))
    close(value, expected("cross_entropy", x, np.array([3])).value, "float64")


@pytest.mark.parametrize("name", CLASS + SOFT_ONLY + BINARY)
@pytest.mark.parametrize(
    "targets", [1, True, 0.5, [0, 1], (0, 1), [[0.5, 0.5]], None, "01", np.ma.zeros(2)], ids=repr
)
def test_what_is_no_array_is_no_target(name, targets):
    with pytest.raises(TypeError, match=r"^targets: expected .* array.*, got"):
        loss(name)(inputs(name, shape(name, 2, 2)), targets)


@pytest.mark.parametrize("name", CLASS + SOFT_ONLY)
def test_bool_targets_are_refused_along_a_class_axis(lib, name):
    x = lib.array(inputs(name, (2, 2)))
    for form in ((2,), (2, 2)):
        with pytest.raises(TypeError, match=r"^targets: expected .*, got .*bool"):
            loss(name)(x, lib.array(np.ones(form), "bool"))


@pytest.mark.parametrize("name", CLASS + SOFT_ONLY + BINARY)
def test_complex_targets_are_refused(lib, name):
    form = shape(name, 2, 2)
    with pytest.raises(TypeError, match=r"^targets: expected .*, got .*complex64"):
        loss(name)(lib.array(inputs(name, form)), lib.array(np.ones(form), "complex64"))


def test_kl_div_refuses_integers(lib):
    x = lib.array(inputs("kl_div", (2, 2)))
    with pytest.raises(TypeError, match=r"^targets: expected a floating array .*int32"):
        xloss.kl_div(x, lib.array(np.ones((2, 2)), "int32"))


@across(BINARY)
def test_the_binary_losses_take_bool_and_integers_as_0_and_1(lib, name):
    x, t = inputs(name, (6,)), np.array([0, 1, 1, 0, 1, 0])
    want = expected(name, x, t)
    kinds = ("bool", "int8", "uint8") if lib.name == "jax" else ("bool", *INTEGERS)
    for kind in kinds:
        if lib.has(kind):
            value, gradient = both(lib, name, lib.array(x), lib.array(t, kind))
            close(value, want.value)
            close(gradient, want.grad)


@pytest.mark.parametrize("name", CLASS + SOFT_ONLY)
def test_soft_targets_need_no_sum_of_one(name):
    x, t = inputs(name, (6, 5)), soft((6, 5)) * np.array([1, 2, 0.5, 4, 1, 0])[:, None]
    for how in ("mean", "sum"):
        want = expected(name, x, t, reduction=how)
        for argument, gradients in ((0, want.grad), (1, want.grad_targets)):
            value, gradient = xloss.value_and_grad(loss(name), argument)(x, t, reduction=how)
            close(value, want.value, "float64")
            close(gradient, gradients, "float64")


@across(CLASS + BINARY + SOFT_ONLY, dask=2)
def test_results_are_of_the_input_s_library_and_0d_or_row_shaped(lib, name):
    form = shape(name, 6, 5)
    x, t = lib.array(inputs(name, form)), lib.like(targets(name, form))
    for how in ("mean", "sum"):
        assert lib.host(loss(name)(x, t, reduction=how)).shape == ()
    assert lib.host(loss(name)(x, t, reduction="none")).shape == (6,)


@across(BINARY)
def test_a_binary_loss_of_one_logit_of_no_dimension(lib, name):
    x, t, s = inputs(name, (1,)), targets(name, (1,)), np.array([0.5])
    for how in ("mean", "sum", "none"):
        want = expected(name, x, t, sample_weight=s, reduction=how)
        value, gradient = xloss.value_and_grad(loss(name))(
            lib.array(x[0]), lib.array(t[0]), sample_weight=lib.array(s[0]), reduction=how
        )
        close(lib.host(value), want.rows[0] if how == "none" else want.value)
        close(lib.read(gradient), want.grad[0])
