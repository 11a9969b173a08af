"""Log-sum-exp, softmax, entropy, targets made and counted, penalties: on every library."""

import math

import numpy as np
import pytest

import xloss
from expected import close, inputs, soft
from libraries import FLOATS, SIGNED, UNSIGNED, across, library
from xloss_conformance import oracle

INF, NAN = np.inf, np.nan
ROWS = np.array(
    [
        [0.0, 17.5, 0.0, -1.0],
        [60, 60, -60, 0],
        [-INF, 0, 1, -INF],
        [-INF] * 4,
        [INF, 0, INF, -INF],
        [0, NAN, 0, 0],
        [1000, 1000.5, 999, 1000],
        [-60000, -60001, -60000, -60017],
    ]
)
FEW = ("numpy", "strict", "torch", "dask")  # where no library compiles what an axis changes
ELEMENTWISE = {"softmax": oracle.softmax_row_probs, "log_softmax": oracle.log_softmax_row}


def rows(function):
    return [function([float(v) for v in row]) for row in ROWS]


def test_logsumexp_is_exact_and_minus_inf_for_no_class(lib):
    value, gradient = xloss.value_and_grad(xloss.logsumexp)(lib.array(ROWS))
    for got in (value, xloss.logsumexp(lib.array(ROWS))):
        close(lib.host(got), rows(oracle.logsumexp_row), within=2)
    close(lib.host(gradient)[:3], rows(oracle.softmax_row_probs)[:3], within=6)


@across(tuple(ELEMENTWISE), jax=2)
def test_softmax_and_its_logarithm_cancel_nothing(lib, name):
    got = getattr(xloss, name)(lib.array(ROWS))
    close(lib.host(got), rows(ELEMENTWISE[name]), within=6)


@pytest.mark.parametrize("lib", FEW, indirect=True)
@pytest.mark.parametrize("name", [*ELEMENTWISE, "logsumexp"])
def test_along_any_axis(lib, name):
    x, run = inputs("cross_entropy", (2, 3, 5)), getattr(xloss, name)
    kept = {"keepdims": True} if name == "logsumexp" else {}
    for axis in (0, 1, -2):
        got = lib.host(run(lib.array(x), axis=axis, **kept))
        moved = lib.host(run(lib.array(np.moveaxis(x, axis, -1)), **kept))
        np.testing.assert_array_equal(np.moveaxis(got, axis, -1), moved)
    if kept:
        np.testing.assert_array_equal(got[:, 0], lib.host(run(lib.array(x), axis=axis)))


@across(("softmax", "log_softmax", "logsumexp", "entropy"), jax=0, kinds=FLOATS)
def test_the_result_is_float32_at_least(lib, name, kind):
    got = getattr(xloss, name)(lib.array(np.zeros((2, 3)), kind))
    lib.owns(got)
    assert lib.dtype_of(got) == ("float64" if kind == "float64" else "float32")


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp", "entropy"])
def test_what_they_refuse(name):
    run, first = getattr(xloss, name), "logits" if name == "entropy" else "x"
    for wrong in (None, 1.0, [0.0], np.zeros(2, int), np.zeros(2, complex)):
        with pytest.raises(TypeError, match=rf"^{first}: expected "):
            run(wrong)
    with pytest.raises(ValueError, match=rf"^{first}: expected at least one axis"):
        run(np.zeros(()))
    with pytest.raises(ValueError, match=r"^axis: expected -1 <= axis < 1"):
        run(np.zeros(2), axis=1)
    with pytest.raises(TypeError, match="positional"):
        run(np.zeros(2), 0)


@across(kinds=SIGNED + UNSIGNED)
def test_one_hot_of_any_integer_dtype_along_any_axis(lib, kind):
    y = np.array([[0, 2], [1, 199]]) % (200 if kind != "int8" else 128)
    for axis in (-1, 0, -2):
        got = lib.host(xloss.one_hot(lib.array(y, kind), np.int64(200), axis=axis))
        np.testing.assert_array_equal(np.moveaxis(got, axis, -1), y[..., None] == np.arange(200))


@across(kinds=("float16", "bfloat16", "float32", "float64", "int32", "uint8"))
def test_one_hot_in_any_dtype(lib, kind):
    of = lib.array([0], kind).dtype
    got = xloss.one_hot(lib.like(np.array([1, 0])), 2, dtype=of)
    assert lib.dtype_of(got) == kind
    np.testing.assert_array_equal(lib.host(got), [[0, 1], [1, 0]])


def test_one_hot_of_a_bad_label(lib):
    y = lib.array([0, 3, -1], "int8")
    if lib.reads:
        with pytest.raises(IndexError, match=r"label 3 at position \(1,\) is outside \[0, 3\)"):
            xloss.one_hot(y, 3)
        return
    np.testing.assert_array_equal(lib.host(xloss.one_hot(y, 3)), [[1, 0, 0], [NAN] * 3, [NAN] * 3])
    for kind in ("int32", "bool"):
        whole = xloss.one_hot(y, 3, dtype=lib.array([0], kind).dtype)
        np.testing.assert_array_equal(lib.host(whole), [[1, 0, 0], [0, 0, 0], [0, 0, 0]])


def test_what_one_hot_refuses():
    y = np.array([0])
    for wrong in (1, [1], np.array([True]), np.array([1.0])):
        with pytest.raises(TypeError, match=r"^labels: expected an integer array, got "):
            xloss.one_hot(wrong, 2)
    with pytest.raises(TypeError, match=r"^num_classes: expected an int, got "):
        xloss.one_hot(y, 2.0)
    with pytest.raises(ValueError, match=r"^num_classes: expected at least 1, got 0"):
        xloss.one_hot(y, 0)
    with pytest.raises(ValueError, match=r"^axis: expected -2 <= axis < 2, got 2"):
        xloss.one_hot(y, 2, axis=2)


@pytest.mark.parametrize("axis", [0, -1])
def test_smooth_labels_is_what_label_smoothing_does(lib, axis):
    x, t = inputs("cross_entropy", (6, 5)), soft((6, 5)) * 2
    masked = np.arange(5) != 3
    x = np.where(masked, x, -INF)
    t[:, 3] = 0
    smoothed = xloss.smooth_labels(
        lib.array(np.moveaxis(t, -1, axis)),
        0.125,
        axis=axis,
        where=lib.like(np.moveaxis(np.broadcast_to(masked, (6, 5)), -1, axis)),
    )
    want = 0.875 * t + 0.125 * t.sum(-1, keepdims=True) * masked / 4
    np.testing.assert_allclose(np.moveaxis(lib.host(smoothed), axis, -1), want, rtol=1e-6)
    x, t = (lib.array(np.moveaxis(a, -1, axis)) for a in (x, t))
    one = xloss.cross_entropy(x, smoothed, axis=axis, reduction="sum")
    other = xloss.cross_entropy(x, t, axis=axis, reduction="sum", label_smoothing=0.125)
    np.testing.assert_allclose(lib.host(one), lib.host(other), rtol=1e-6)


def test_what_smooth_labels_refuses():
    t = np.ones((2, 3))
    for epsilon in (-0.1, 1.1, NAN):
        with pytest.raises(ValueError, match=r"^epsilon: expected a number in \[0, 1\]"):
            xloss.smooth_labels(t, epsilon)
    with pytest.raises(TypeError, match=r"^where: expected a bool array"):
        xloss.smooth_labels(t, 0.1, where=t)
    with pytest.raises(ValueError, match=r"^where: shape \(2,\) does not broadcast"):
        xloss.smooth_labels(t, 0.1, where=np.ones(2, bool))


def test_perplexity_is_exp_of_the_loss(lib):
    got = xloss.perplexity(lib.array([0.0, 1.0, -INF, INF]))
    np.testing.assert_allclose(lib.host(got), [1, math.e, 0, INF], rtol=1e-6)
    assert [xloss.perplexity(x) for x in (0.0, 1, 1e4)] == [1.0, math.e, INF]
    for wrong in ("1", None, [1.0]):
        with pytest.raises(TypeError, match=r"^loss: expected "):
            xloss.perplexity(wrong)


WEIGHTS = {
    "weight": np.array([1.0, 2.5, 0.5, 0.0, 3.0]),
    "sample_weight": np.array([1.0, 0.5, 2.0, 0.25, 3.0, 0.0]),
    "where": np.array([True, False, True, True, True, True]),
}


def test_effective_count_is_the_mean_s_denominator(lib):
    y, t = np.array([0, 2, 1, 4, -100, 3]), soft((6, 5)) * 2
    given = {k: lib.like(v) for k, v in WEIGHTS.items()}
    w, s, keep = WEIGHTS["weight"], WEIGHTS["sample_weight"], WEIGHTS["where"]
    assert lib.host(xloss.effective_count(lib.like(y))) == 5
    present = {"ignore_index": None, "where": lib.like(y >= 0)}
    assert lib.host(xloss.effective_count(lib.like(y), **present)) == 5
    got = lib.host(xloss.effective_count(lib.like(y), **given))
    assert got == sum(a * w[c] for a, c, k in zip(s, y, keep, strict=True) if k and c >= 0)
    got = lib.host(xloss.effective_count(lib.like(t), **given))
    assert got == (s * keep * (t * w).sum(-1)).sum()
    moved = lib.like(np.ascontiguousarray(t.T))
    assert lib.host(xloss.effective_count(moved, axis=0, **given)) == got


def test_effective_count_of_a_bad_label():
    y = np.array([0, -1, 5])
    with pytest.raises(IndexError, match=r"label -1 at position \(1,\)"):
        xloss.effective_count(y)
    with pytest.raises(IndexError, match=r"label 5 at position \(0,\) is outside \[0, 5\)"):
        xloss.effective_count(y[2:], weight=np.ones(5))
    with pytest.raises(ValueError, match=r"^ignore_index: 0 has no meaning"):
        xloss.effective_count(soft((6, 5)), ignore_index=0)


def test_effective_count_counts_beyond_float32():
    """16,777,217 is the first integer that float32 does not hold."""
    assert xloss.effective_count(np.broadcast_to(np.int64(0), 16_777_217)) == 16_777_217


def test_l2_penalty_is_half_the_squared_norm(lib):
    a, b = inputs("cross_entropy", (6, 5)), inputs("cross_entropy", (5,))
    for params, of in ((lib.array(a), (a,)), ([lib.array(a), lib.array(b)], (a, b))):
        want = 0.25 * sum((p**2).sum() for p in of)
        value, gradient = xloss.value_and_grad(xloss.l2_penalty)(params, strength=0.5)
        for got in (value, xloss.l2_penalty(params, strength=0.5)):
            np.testing.assert_allclose(lib.host(got), want, rtol=2e-7)
        gradients = gradient if isinstance(gradient, tuple) else (gradient,)
        for g, p in zip(gradients, of, strict=True):
            np.testing.assert_array_equal(lib.host(g), np.float32(0.5) * p.astype("f4"))


@across(kinds=FLOATS)
def test_l2_penalty_sums_in_float32_at_least(lib, kind):
    """The square of 300 is no float16, and a bfloat16 sum stops at 256 of them."""
    many = lib.array(np.full(301 if lib.name in ("dask", "jax") else 70_001, 300.0), kind)
    value, gradient = xloss.value_and_grad(xloss.l2_penalty)(many, strength=1.0)
    assert lib.dtype_of(value) == ("float64" if kind == "float64" else "float32")
    assert lib.host(value) == lib.host(value).dtype.type(45_000 * many.shape[0])
    assert lib.dtype_of(gradient) == kind


def test_l2_penalty_of_mixed_dtypes():
    parts = [np.ones(3, "f4"), np.ones(2, "f8")]
    value, gradients = xloss.value_and_grad(xloss.l2_penalty)(parts, strength=2.0)
    assert (value, value.dtype) == (5, "float64")
    assert [g.dtype for g in gradients] == ["float32", "float64"]


def test_l2_penalty_is_recorded_by_autograd():
    torch = pytest.importorskip("torch")
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    xloss.l2_penalty([x], strength=3.0).backward()
    assert x.grad.tolist() == [3.0, -6.0]


def test_what_l2_penalty_refuses():
    x = np.ones(3)
    for wrong in (1.0, [1.0, 2.0], np.ones(3, int), [x, np.ones(3, int)], "ab"):
        with pytest.raises(TypeError, match=r"^params: expected "):
            xloss.l2_penalty(wrong, strength=1.0)
    with pytest.raises(ValueError, match=r"^params: expected at least one array"):
        xloss.l2_penalty([], strength=1.0)
    with pytest.raises(TypeError, match=r"^params: expected an array of numpy"):
        xloss.l2_penalty([x, library("strict").array(x)], strength=1.0)
    for wrong in (-1.0, NAN, INF):
        with pytest.raises(ValueError, match=r"^strength: expected a number in \[0, inf\)"):
            xloss.l2_penalty(x, strength=wrong)
    with pytest.raises(ValueError, match=r"^argnums: "):
        xloss.value_and_grad(xloss.l2_penalty, 1)
