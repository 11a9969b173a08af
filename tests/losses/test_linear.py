"""linear_cross_entropy: rows of any shape, infinite weights, dtypes, and how its rows are cut.

Its numbers on every library are the suite's family "linear".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import xloss
from libraries import across
from linear_cases import (
    CLASSES,
    ROWS,
    WIDTH,
    B,
    W,
    X,
    Y,
    check,
    expected,
)
from xloss.core import linear as cutting
from xloss.core.linear import LOGITS_BUDGET_BYTES, WEIGHT_CHUNK, Linear, block_rows

gradients: Callable[..., Any] = xloss.value_and_grad(xloss.linear_cross_entropy, (0, 1, "bias"))


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
