"""linear_cross_entropy: rows of any shape, infinite weights, dtypes, errors, how rows are cut.

Its numbers on every library are the suite's family "linear".
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import xloss
from libraries import across
from linear_cases import B, T, W, X, Y, held
from xloss._arrays.context import context
from xloss.core.linear import LOGITS_BUDGET_BYTES, Linear, block_rows

(ROWS, WIDTH), CLASSES = X.shape, len(W)


@across()
@pytest.mark.parametrize("rows", [(), (2, 3), (0,)], ids=str)
def test_rows_of_any_shape(lib, rows):
    """One row without an axis, rows of two axes, no row: as if they stood below each other."""
    x, y = np.resize(X, (*rows, WIDTH)), np.resize(abs(Y) % CLASSES, rows)
    run, how = xloss.value_and_grad(xloss.linear_cross_entropy, (0, 1)), {"reduction": "none"}
    made = []
    for features, labels in ((x, y), (x.reshape(-1, WIDTH), y.reshape(-1))):
        value, grads = run(lib.like(features), lib.like(W), lib.like(labels), block_rows=2, **how)
        made.append([lib.host(a) for a in (value, *grads)])
    assert made[0][0].shape == rows
    assert made[0][1].shape == x.shape
    for got, flat in zip(*made, strict=True):
        np.testing.assert_allclose(got.reshape(flat.shape), flat, rtol=2e-6, atol=1e-6)


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


@across(having="float64")
def test_float64_features_compute_in_float64(lib):
    """Whatever the weight's dtype; each gradient in its argument's."""
    x, w = lib.array(X, "float64"), lib.array(W, "float32")
    value, (gx, gw) = xloss.value_and_grad(xloss.linear_cross_entropy, (0, 1))(x, w, lib.like(Y))
    held({"value": lib.host(value), "x": lib.host(gx)}, dtype="float64")
    assert lib.dtype_of(gw) == "float32"


def test_blocks_are_chosen_from_the_shape_and_stay_in_their_room():
    """Of one size, and no more than the room; an int is taken as it is."""
    shapes = [(4096, 128256), (1024, 32064), (65536, 10), (3, 10**9), (10**6, 50257)]
    for (dtype, size), (rows, classes) in product((("float32", 4), ("float64", 8)), shapes):
        cx = context(np.empty(0, dtype), np)
        got = block_rows(rows, classes, Linear(W, None, None), cx)
        assert 1 <= got <= rows
        assert got == 1 or got * classes * size <= LOGITS_BUDGET_BYTES
        # One block more than the room asks for at most, for rows in sixteens.
        least = -(-rows // max(1, LOGITS_BUDGET_BYTES // size // classes))
        assert -(-rows // got) <= least + 1
    assert block_rows(100, 10, Linear(W, None, 7), cx) == 7
    assert block_rows(5, 10, Linear(W, None, 7), cx) == 5


ERRORS = [
    ("features", {"features": [[1.0]]}, TypeError),
    ("features", {"features": np.float64(1.0)}, ValueError),
    ("weight", {"weight": W.astype(int)}, TypeError),
    ("weight", {"weight": W[:, :3]}, ValueError),
    ("weight", {"weight": W[0]}, ValueError),
    ("weight", {"weight": W[:0]}, ValueError),
    ("bias", {"bias": B[:3]}, ValueError),
    ("bias", {"bias": 1.0}, TypeError),
    ("targets", {"targets": Y[:3]}, ValueError),
    ("targets", {"targets": T[:, :3]}, ValueError),
    ("block_rows", {"block_rows": 0}, ValueError),
    ("block_rows", {"block_rows": 2.0}, TypeError),
    ("block_rows", {"block_rows": "all"}, TypeError),
    ("class_weight", {"class_weight": -np.ones(CLASSES), "validate": True}, ValueError),
    ("sample_weight", {"sample_weight": -np.ones(ROWS), "validate": True}, ValueError),
]


@pytest.mark.parametrize(("name", "given", "error"), ERRORS, ids=lambda v: str(v)[:24])
def test_errors_name_the_argument(name, given, error):
    arrays = [given.get(n, a) for n, a in (("features", X), ("weight", W), ("targets", Y))]
    options = {k: v for k, v in given.items() if k not in ("features", "weight", "targets")}
    with pytest.raises(error, match=f"^{name}: "):
        xloss.linear_cross_entropy(*arrays, **options)


def test_argnums_are_features_weight_bias_and_soft_targets():
    gradients = xloss.value_and_grad(xloss.linear_cross_entropy, (0, 1, "bias"))
    with pytest.raises(ValueError, match="bias is not given"):
        gradients(X, W, Y)
    with pytest.raises(ValueError, match="class_weight is a constant"):
        xloss.value_and_grad(xloss.linear_cross_entropy, "class_weight")(X, W, Y)
    with pytest.raises(ValueError, match="cotangent"):
        gradients(X, W, Y, bias=B, reduction="none", cotangent=np.ones(3))


def test_the_position_of_a_bad_label_among_rows_of_two_axes():
    y = np.zeros((2, 3), int)
    y[1, 2] = 99
    with pytest.raises(IndexError, match=r"label 99 at position \(1, 2\)"):
        xloss.linear_cross_entropy(np.resize(X, (2, 3, WIDTH)), W, y)
