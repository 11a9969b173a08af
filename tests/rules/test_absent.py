"""Absent rows contribute exactly nothing, whatever stands in them, and no check sees them."""

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
from libraries import across, library

PRESENT = np.array([True, False, True, True, False, True])
WEIGHT = np.array([1.0, 2.5, 0.5, 0.25, 3.0])
ROWS = np.array([1.0, 0.5, 2.0, 0.25, 3.0, 0.75])
OPTIONS = {
    "cross_entropy": {"weight": WEIGHT, "label_smoothing": 0.125, "z_loss": 0.25, "softcap": 3.0},
    "focal_loss": {"weight": WEIGHT, "label_smoothing": 0.125, "softcap": 3.0},
    "nll_loss": {"weight": WEIGHT, "label_smoothing": 0.125},
    "log_loss": {"weight": WEIGHT, "label_smoothing": 0.125},
    "kl_div": {},
    "binary_cross_entropy_with_logits": {"label_smoothing": 0.125},
    "binary_cross_entropy": {"label_smoothing": 0.125},
    "sigmoid_focal_loss": {"alpha": 0.25},
}
WAYS = ("ignore_index", "where", "sample_weight")


def batch(name: str, way: str, soft_targets: bool):
    """A batch whose rows 1 and 4 are absent and full of rubbish, and the batch without them."""
    form = shape(name, 6, 5)
    x = inputs(name, form)
    t = soft(form) if soft_targets and name in CLASS else targets(name, form)
    s = ROWS.copy()
    clean = x[PRESENT], t[PRESENT], s[PRESENT]
    x[1] = np.nan
    x[4] = np.inf if name in BINARY else [np.inf, -np.inf, np.nan, 3e38, -np.inf]
    if t.dtype.kind == "f":
        t[1], t[4] = np.nan, -np.inf
    else:
        t[1], t[4] = (-100, -100) if way == "ignore_index" else (99, -7)
    given = {}
    if way == "where":
        given["where"] = PRESENT
        s[1], s[4] = np.nan, -np.inf
    elif way == "sample_weight":
        s[1], s[4] = 0.0, -0.0
    return x, t, {"sample_weight": s, **given}, clean


def ways(name: str, soft_targets: bool = False) -> tuple[str, ...]:
    return WAYS if name in CLASS and not soft_targets else WAYS[1:]


@across(LOSSES)
def test_absent_rows_contribute_exactly_nothing(lib, name):
    for way in ways(name):
        x, t, given, (x_, t_, s_) = batch(name, way, False)
        options = {**OPTIONS[name], "reduction": "mean"}
        want = expected(name, x_, t_, sample_weight=s_, **options)
        value, gradient = xloss.value_and_grad(loss(name))(
            lib.like(x), lib.like(t), **lib.given({**options, **given})
        )
        close(lib.host(value), want.value)
        gradient = lib.host(gradient)
        assert not gradient[~PRESENT].any()
        close(gradient[PRESENT], want.grad)


@pytest.mark.parametrize("way", WAYS[1:])
@across(LOSSES)
def test_absent_rows_of_soft_targets_contribute_exactly_nothing(lib, name, way):
    x, t, given, (x_, t_, s_) = batch(name, way, True)
    options = {**OPTIONS[name], "reduction": "mean"}
    want = expected(name, x_, t_, sample_weight=s_, **options)
    value, gradients = xloss.value_and_grad(loss(name), (0, 1))(
        lib.like(x), lib.like(t), **lib.given({**options, **given})
    )
    close(lib.host(value), want.value)
    # The gradient to targets is a difference, up to 16 times smaller than its two terms.
    for gradient, wanted, within in zip(
        gradients, (want.grad, want.grad_targets), (8, 64), strict=True
    ):
        gradient = lib.host(gradient)
        assert not gradient[~PRESENT].any()
        close(gradient[PRESENT], wanted, within=within)


@pytest.mark.parametrize("soft_targets", [False, True], ids=["index", "soft"])
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("how", ["none", "sum", "mean"])
def test_absent_is_removed_to_the_bit(name, soft_targets, how):
    for way in ways(name, soft_targets):
        x, t, given, (x_, t_, s_) = batch(name, way, soft_targets)
        run = xloss.value_and_grad(loss(name))
        options = {**OPTIONS[name], "reduction": how}
        value, gradient = run(x.astype("f4"), t, **options, **given)
        value_, gradient_ = run(x_.astype("f4"), t_, sample_weight=s_, **options)
        np.testing.assert_array_equal(gradient[PRESENT], gradient_)
        np.testing.assert_array_equal(value[PRESENT] if how == "none" else value, value_)
        assert how != "none" or not value[~PRESENT].any()


@pytest.mark.parametrize("lib", ["numpy", "strict", "torch", "device1"], indirect=True)
@pytest.mark.parametrize("name", LOSSES)
def test_absent_rows_are_exempt_from_every_check(lib, name):
    for soft_targets in (False, True):
        for way in ways(name, soft_targets):
            x, t, given, _ = batch(name, way, soft_targets)
            options = {"validate": True} if name in CLASS else {}
            value = loss(name)(lib.like(x), lib.like(t), **lib.given({**options, **given}))
            assert np.isfinite(lib.host(value))


@across(BINARY)
def test_an_absent_element_may_hold_an_integer_that_is_no_target(lib, name):
    x, t = inputs(name, (6,)), np.array([0, 7, 1, 1, -3, 0])
    want = expected(name, x[PRESENT], t[PRESENT])
    value, gradient = xloss.value_and_grad(loss(name))(
        lib.like(x), lib.like(t), where=lib.like(PRESENT)
    )
    close(lib.host(value), want.value)
    gradient = lib.host(gradient)
    assert not gradient[~PRESENT].any()
    close(gradient[PRESENT], want.grad)


@across(CLASS)
def test_a_class_weight_of_nan_matters_to_its_rows_only(lib, name):
    """The class of an absent row's label may weigh anything."""
    x, y = inputs(name, (6, 5)), np.array([0, 2, 1, 4, 2, 3])
    w = np.where(np.arange(5) == 2, np.nan, WEIGHT)
    want = expected(name, x[PRESENT], y[PRESENT], weight=WEIGHT)
    value, gradient = xloss.value_and_grad(loss(name))(
        lib.like(x), lib.like(y), weight=lib.like(w), where=lib.like(PRESENT)
    )
    close(lib.host(value), want.value)
    gradient = lib.host(gradient)
    assert not gradient[~PRESENT].any()
    close(gradient[PRESENT], want.grad)


@pytest.mark.parametrize("ignored", [2, 0, 4])
@across(CLASS)
def test_ignore_index_may_be_a_class(lib, name, ignored):
    x, y = inputs(name, (6, 5)), np.array([0, 2, 1, 4, 2, 3])
    want = expected(name, x, y, ignore_index=ignored)
    value, gradient = xloss.value_and_grad(loss(name))(
        lib.like(x), lib.like(y), ignore_index=ignored
    )
    close(lib.host(value), want.value)
    close(lib.host(gradient), want.grad)
    assert not lib.host(gradient)[y == ignored].any()


@pytest.mark.parametrize("name", CLASS)
def test_ignore_index_none_ignores_nothing(name):
    x, y = inputs(name, (2, 5)), np.array([0, -100])
    assert np.isfinite(loss(name)(x, y))
    with pytest.raises(IndexError, match="label -100"):
        loss(name)(x, y, ignore_index=None)


def test_ignore_index_may_be_a_numpy_integer():
    x, y = inputs("cross_entropy", (2, 5)), np.array([0, 7])
    got = xloss.cross_entropy(x, y, ignore_index=np.uint8(7), reduction="none")
    assert got[0] > 0
    assert got[1] == 0


def test_a_nan_weight_is_present():
    got = xloss.cross_entropy(
        np.zeros((2, 3)), np.array([0, 1]), sample_weight=np.array([np.nan, 1.0]), reduction="none"
    )
    assert np.isnan(got).tolist() == [True, False]


@pytest.mark.parametrize("name", LOSSES)
def test_autograd_gives_absent_rows_exactly_zero(name):
    torch = pytest.importorskip("torch")
    for soft_targets in (False, True):
        for way in ways(name, soft_targets):
            x, t, given, (x_, t_, s_) = batch(name, way, soft_targets)
            want = expected(name, x_, t_, sample_weight=s_, **OPTIONS[name])
            leaves = [torch.tensor(x, requires_grad=True), torch.tensor(t)]
            leaves[1].requires_grad_(t.dtype.kind == "f")
            tensors = {
                k: torch.tensor(v) if isinstance(v, np.ndarray) else v
                for k, v in {**OPTIONS[name], **given}.items()
            }
            loss(name)(*leaves, **tensors).backward()
            wanted = (want.grad, want.grad_targets)
            for leaf, rows in zip(leaves[: 1 + leaves[1].requires_grad], wanted, strict=False):
                assert not leaf.grad[~PRESENT].any()
                close(leaf.grad[PRESENT], rows, "float64", 64)


@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss", "binary_cross_entropy_with_logits"])
def test_jax_grad_gives_absent_rows_exactly_zero(name):
    jax = pytest.importorskip("jax")
    x, t, given, (x_, t_, s_) = batch(name, "where", False)
    want = expected(name, x_, t_, sample_weight=s_)
    rest = {k: library("jax").like(v) for k, v in given.items()}
    t = library("jax").like(t)
    gradient = np.asarray(jax.grad(lambda z: loss(name)(z, t, **rest))(x.astype("f4")))
    assert not gradient[~PRESENT].any()
    close(gradient[PRESENT], want.grad)


@across(CLASS)
def test_a_row_of_many_axes_may_be_absent(lib, name):
    x, y = inputs(name, (2, 5, 3)), labels(6, 5).reshape(2, 3)
    where = PRESENT.reshape(2, 3)
    flat = np.moveaxis(x, 1, -1).reshape(6, 5)
    want = expected(name, flat, y.ravel(), where=PRESENT)
    value, gradient = xloss.value_and_grad(loss(name))(
        lib.like(x), lib.like(y), axis=1, where=lib.like(where)
    )
    close(lib.host(value), want.value)
    close(np.moveaxis(lib.host(gradient), 1, -1).reshape(6, 5), want.grad)
