"""linear_cross_entropy on every library: the loss and its gradients are those of whole logits."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

import xloss
from libraries import across
from linear_cases import (
    CLASSES,
    KEEP,
    OPTIONS,
    REDUCTIONS,
    ROWS,
    SAMPLE,
    UP,
    WIDTH,
    B,
    T,
    W,
    X,
    Y,
    check,
    expected,
    options_for,
)
from xloss.core import linear as cutting
from xloss.core.linear import LOGITS_BUDGET_BYTES, WEIGHT_CHUNK, Linear, block_rows
from xloss_conformance import oracle

NAMES = {"x": 0, "weight": 1, "bias": "bias", "targets": 2}
gradients: Callable[..., Any] = xloss.value_and_grad(xloss.linear_cross_entropy, (0, 1, "bias"))


@across()
@pytest.mark.parametrize("soft", [False, True], ids=["labels", "soft"])
def test_every_option_gives_what_whole_logits_give(lib, soft):
    """Blocks of 3 rows of 7, every gradient, and the value alone."""
    # JAX compiles each call, the emulated engine each kernel, and Dask makes a graph of each.
    few = lib.name in ("jax", "emulated", "dask")
    reductions = ("mean", "none") if lib.name == "jax" else REDUCTIONS
    for name, reduction in product(("all",) if few else OPTIONS, reductions):
        what = f"{name}, {reduction}"
        given = options_for(name, reduction, soft)
        t = T if soft else np.where(Y == -100, given.get("ignore_index", -100), Y)
        up = UP if reduction == "none" else np.float64(-2.0)
        want = expected(X, W, t, B, given, up)
        wanted = [n for n in NAMES if soft or n != "targets"]
        f = xloss.value_and_grad(xloss.linear_cross_entropy, tuple(NAMES[n] for n in wanted))
        arrays = [lib.like(a) for a in (X, W, t)]
        own = {**lib.given(given), "bias": lib.like(B), "block_rows": 3}
        value, grads = f(*arrays, cotangent=lib.array(up), **own)
        assert lib.dtype_of(value) == "float32"
        check(lib.host(value), want.value, want.value_off, f"{what}: value")
        for n, g in zip(wanted, grads, strict=True):
            assert lib.dtype_of(g) == "float32"
            check(lib.host(g), want.grads[n], want.off[n], f"{what}: {n}")
        alone = xloss.linear_cross_entropy(*arrays, **own)
        check(lib.host(alone), want.value, want.value_off, f"{what}: value alone")


def test_the_definition_in_80_digits():
    """Value and gradients against mpmath, whose logits are exact sums."""
    exact = [[oracle.mp.mpf(v) for v in row] for row in X.tolist()]
    logits = [
        [
            sum(p * q for p, q in zip(x, w, strict=True)) + b
            for w, b in zip(W.tolist(), B.tolist(), strict=True)
        ]
        for x in exact
    ]
    rows = [
        None if y == -100 else oracle.softmax_row("cross_entropy", z, y, label_smoothing=0.125)
        for z, y in zip(logits, Y.tolist(), strict=True)
    ]
    want = oracle.reduce(rows)
    g = np.array([[0.0] * CLASSES if r is None else [float(v) for v in r] for r in want.grads])
    value, (gx, gw, gb) = gradients(X, W, Y, bias=B, label_smoothing=0.125, block_rows=2)
    eps = 2.0**-52
    off = 6 * eps * np.abs(g).max()
    check(value, np.asarray(float(want.value)), 4 * eps * float(want.value), "value")
    check(gx, g @ W, off * np.abs(W).sum(0) + 16 * eps * (abs(g) @ abs(W)), "features")
    check(gw, g.T @ X, off * np.abs(X).sum(0) + 16 * eps * (abs(g).T @ abs(X)), "weight")
    check(gb, g.sum(0), ROWS * off + 16 * eps * abs(g).sum(0), "bias")


@across()
@pytest.mark.parametrize("rows", [(), (2, 3), (0,)], ids=str)
def test_rows_of_any_shape(lib, rows):
    """One row without an axis, rows of two axes, no row."""
    x = np.resize(X, (*rows, WIDTH))
    y = np.resize(np.abs(Y) % CLASSES, rows)
    value, (gx, gw) = xloss.value_and_grad(xloss.linear_cross_entropy, (0, 1))(
        lib.like(x), lib.like(W), lib.like(y), reduction="none", block_rows=2
    )
    flat = x.reshape(-1, WIDTH)
    want = expected(flat, W, y.reshape(-1), None, {"reduction": "none"})
    check(lib.host(value), want.value.reshape(rows), want.value_off.reshape(rows), "value")
    check(lib.host(gx), want.grads["x"].reshape(x.shape), want.off["x"].reshape(x.shape), "x")
    check(lib.host(gw), want.grads["weight"], want.off["weight"], "weight")


ABSENT = {
    "ignored": {},
    "where": {"where": KEEP},
    "sample_weight": {"sample_weight": SAMPLE},
}


@across()
@pytest.mark.parametrize("how", ABSENT)
def test_absent_rows_of_nan_add_nothing(lib, how):
    """0·NaN in the product over rows would fill the weight's gradient."""
    given = ABSENT[how]
    y = np.abs(Y) % CLASSES if given else Y
    gone = {"ignored": Y == -100, "where": ~KEEP, "sample_weight": SAMPLE == 0}[how]
    x = np.where(gone[:, None], np.array([np.nan, np.inf, -np.inf, np.nan, 1.0]), X)
    want = expected(X, W, y, B, given)
    arrays = (lib.like(x), lib.like(W), lib.like(y))
    own = {**lib.given(given), "bias": lib.like(B), "block_rows": 3}
    value, grads = gradients(*arrays, **own)
    check(lib.host(value), want.value, want.value_off, "value")
    for n, g in zip(("x", "weight", "bias"), grads, strict=True):
        check(lib.host(g), want.grads[n], want.off[n], n)
    assert not lib.host(grads[0])[gone].any()


@across()
def test_an_absent_row_meets_no_infinite_weight(lib):
    """Its gradient is 0, and 0·inf is NaN."""
    w = W.copy()
    w[4] = np.inf
    y = np.where(np.arange(ROWS) == 2, -100, 1)
    _, (gx, _) = xloss.value_and_grad(xloss.linear_cross_entropy, (0, 1))(
        lib.like(X), lib.like(w), lib.like(y), block_rows=3
    )
    assert not lib.host(gx)[2].any()


@across()
def test_where_no_row_weighs_anything_all_is_zero(lib):
    """Though features be NaN: the mean over nothing is 0, with gradient 0."""
    x = X.copy()
    x[1] = np.nan
    weight = np.ones(CLASSES)
    weight[3] = 0
    value, grads = gradients(
        lib.like(x),
        lib.like(W),
        lib.like(np.full(ROWS, 3)),
        bias=lib.like(B),
        class_weight=lib.like(weight),
        block_rows=3,
    )
    assert float(lib.host(value)) == 0
    assert not any(lib.host(g).any() for g in grads)


@across()
def test_a_bad_label_raises_where_it_can_be_read_and_is_nan_elsewhere(lib):
    """Its own row, its own features; the weight's gradient is a sum over rows."""
    y = np.array([0, 1, 2, CLASSES, 3, -1, 4])
    call = (lib.like(X), lib.like(W), lib.like(y))
    if lib.reads:
        with pytest.raises(IndexError, match=r"targets: label 11 at position \(3,\) .* \[0, 11\)"):
            xloss.linear_cross_entropy(*call)
    f = xloss.value_and_grad(xloss.linear_cross_entropy)
    rows, g = f(*call, reduction="none", validate="auto" if not lib.reads else False, block_rows=2)
    assert np.flatnonzero(np.isnan(lib.host(rows))).tolist() == [3, 5]
    assert np.flatnonzero(np.isnan(lib.host(g)).all(-1)).tolist() == [3, 5]
    assert np.isnan(lib.host(g)).any(-1).sum() == 2


def test_the_position_of_a_bad_label_among_rows_of_two_axes():
    y = np.zeros((2, 3), int)
    y[1, 2] = 99
    with pytest.raises(IndexError, match=r"label 99 at position \(1, 2\)"):
        xloss.linear_cross_entropy(np.resize(X, (2, 3, WIDTH)), W, y)


@across(having="float64")
def test_float64_features_compute_in_float64(lib):
    """Whatever the weight's dtype; each gradient in its argument's."""
    if lib.name == "jax":
        pytest.skip("without 64 bits")
    w = lib.array(W, "float32")
    value, (gx, gw) = xloss.value_and_grad(xloss.linear_cross_entropy, (0, 1))(
        lib.array(X, "float64"), w, lib.like(Y), block_rows=3
    )
    want = expected(X, W, Y, None, {}, eps=2.0**-52)
    assert (lib.dtype_of(value), lib.dtype_of(gx), lib.dtype_of(gw)) == (
        "float64",
        "float64",
        "float32",
    )
    check(lib.host(value), want.value, want.value_off, "value")
    check(lib.host(gx), want.grads["x"], want.off["x"], "x")


@across(kinds=("float16", "bfloat16"))
def test_16_bits_are_summed_in_32(lib, kind):
    """256 + 1 is 256 in bfloat16, 2048 + 1 is 2048 in float16: sums of ones stand still there.

    The logits too are odd numbers, which round apart.
    """
    if lib.name == "dask":
        pytest.skip("no 16-bit dtypes are claimed")
    big, ones = (256.0, 131) if kind == "bfloat16" else (2048.0, 67)
    rows = 600
    x = np.concatenate([[big], np.ones(ones)])[None].repeat(rows, 0)
    w = np.stack([np.ones(ones + 1), np.zeros(ones + 1)])
    w[1, 0] = 1.0  # the logits differ by the ones alone
    w[1, 1 : ones // 2 + 1] = 1.0
    b = np.array([0.0, ones - ones // 2])  # and by this back again: the two are equal, and odd
    y = np.zeros(rows, int)
    a = [lib.array(v, kind) for v in (x, w)]
    value, (gx, gw, gb) = gradients(*a, lib.like(y), bias=lib.array(b, kind), block_rows=8)
    assert lib.dtype_of(value) == "float32"
    assert {lib.dtype_of(g) for g in (gx, gw, gb)} == {kind}
    log2 = np.log(2.0)
    assert abs(float(lib.host(value)) - log2) <= 4 * np.spacing(np.float32(log2))
    # 600 rows add a 1200th of their features each: terms of fewer than four units of the sum.
    want = np.concatenate([[big], np.ones(ones)]) / 2
    np.testing.assert_array_equal(lib.host(gw).astype(float), np.stack([-want, want]))
    np.testing.assert_array_equal(lib.host(gb).astype(float), [-0.5, 0.5])


def test_any_block_gives_the_same():
    """Up to the roundings of sums: rows of the loss do not depend on how they are cut."""
    want = gradients(X, W, Y, bias=B)
    for rows in (1, 2, 5, 7, 100):
        value, grads = gradients(X, W, Y, bias=B, block_rows=rows)
        np.testing.assert_allclose(value, want[0], rtol=4 * 2.0**-52)
        for g, w in zip(grads, want[1], strict=True):
            np.testing.assert_allclose(g, w, atol=32 * 2.0**-52)


def test_weights_that_are_converted_are_converted_in_pieces(monkeypatch):
    """A 16-bit weight is never held in 32 bits whole: pieces of two classes give the same."""
    half = [a.astype(np.float16) for a in (X, W)]
    want = gradients(*half, Y, bias=B.astype(np.float16), block_rows=3)
    monkeypatch.setattr(cutting, "WEIGHT_CHUNK", 2 * WIDTH)
    got = gradients(*half, Y, bias=B.astype(np.float16), block_rows=3)
    np.testing.assert_array_max_ulp(got[0], want[0], 2)
    for g, w in zip(got[1], want[1], strict=True):
        np.testing.assert_allclose(g.astype(float), w.astype(float), atol=2.0**-11)


def test_blocks_are_chosen_from_the_shape_and_stay_in_their_room():
    """Of one size, and no more than the room; an int is taken as it is."""
    from xloss._arrays.context import context

    for dtype, size in (("float32", 4), ("float64", 8)):
        cx = context(np.empty(0, dtype), np)
        for rows, classes in [
            (4096, 128256),
            (1024, 32064),
            (65536, 10),
            (3, 10**9),
            (10**6, 50257),
        ]:
            got = block_rows(rows, classes, Linear(W, None, None), cx)
            assert 1 <= got <= rows
            assert got == 1 or got * classes * size <= LOGITS_BUDGET_BYTES
            blocks = -(-rows // got)
            # One block more than the room asks for at most, for rows in sixteens.
            assert blocks <= -(-rows // max(1, LOGITS_BUDGET_BYTES // size // classes)) + 1
        assert block_rows(100, 10, Linear(W, None, 7), cx) == 7
        assert block_rows(5, 10, Linear(W, None, 7), cx) == 5
    assert WEIGHT_CHUNK * 4 < LOGITS_BUDGET_BYTES


@pytest.mark.parametrize("layout", ["F", "reversed", "readonly", "broadcast"])
def test_inputs_of_any_layout_are_read_and_never_written(layout):
    def lay(a: np.ndarray) -> np.ndarray:
        if layout == "F":
            return np.asfortranarray(a)
        if layout == "reversed":
            return a[::-1].copy()[::-1]
        if layout == "broadcast":
            return np.broadcast_to(a, (2, *a.shape))[1]
        out = a.copy()
        out.flags.writeable = False
        return out

    arrays = [lay(a) for a in (X, W, Y)]
    before = [a.copy() for a in (*arrays, B)]
    value, grads = gradients(*arrays, bias=lay(B), block_rows=3)
    want = gradients(X, W, Y, bias=B, block_rows=3)
    np.testing.assert_allclose(value, want[0], rtol=2.0**-50)
    for g, w in zip(grads, want[1], strict=True):
        np.testing.assert_allclose(g, w, atol=2.0**-48)
    for was, now in zip(before, (*arrays, B), strict=True):
        np.testing.assert_array_equal(was, now)
