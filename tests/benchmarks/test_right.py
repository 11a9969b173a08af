"""What must come out of a call, before it is timed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks import work as works
from benchmarks.contenders import NotOffered
from benchmarks.libraries import Library
from benchmarks.right import BEYOND, compared, read, right
from benchmarks.work import Work, drawn
from expected import expected
from xloss_conformance.timing import Call


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_expected_answer_is_the_oracles(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that repeat have labels of their own."""
    work = Work("gradient", (8, 61), True, dtype)
    monkeypatch.setattr(works, "DISTINCT", 3 * 61)  # three rows: eight are no multiple of them
    some, given = drawn(work), Library().given(work)
    assert (some.x.shape, some.y.shape) == ((3, 61), (8,))
    np.testing.assert_array_equal(given.x[3:6], some.x)
    exact = expected("cross_entropy", given.x.astype(np.float64), given.y)
    want = right(work, given)
    assert want.value == pytest.approx(exact.value, rel=1e-14)
    np.testing.assert_allclose(want.losses, exact.rows, rtol=1e-13)
    np.testing.assert_allclose(want.gradient, exact.grad, rtol=1e-13)
    assert exact.rows[0] == pytest.approx(60 * np.exp(-20.0), rel=1e-6)  # the tail


def test_a_linear_layers_answer_is_the_oracles() -> None:
    work = Work("linear", (6, 50), True, features=4)
    given = drawn(work)
    exact = expected("cross_entropy", given.x.astype(np.float64) @ given.weight.T, given.y)
    want = right(work, given)
    assert want.value == pytest.approx(exact.value, rel=1e-6)
    np.testing.assert_allclose(want.gradient, exact.grad @ given.weight, atol=1e-6)


@pytest.mark.parametrize("axis", [1, -1])
def test_the_rows_that_are_read_are_those_that_are_expected(axis: int) -> None:
    work = Work("x", (2, 3, 4, 5), True, axis=axis)
    given = Library().given(work)
    # Every row's classes, laid out as the logits are: their softmax less one-hot is the gradient.
    z = np.moveaxis(given.x.astype(np.float64), axis, -1)
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    p[(*np.indices(work.rows), given.y)] -= 1
    gradient = np.moveaxis(p, -1, axis) / given.y.size
    want = right(work, given)
    assert given.x.flags.c_contiguous
    np.testing.assert_allclose(read(work, gradient), want.gradient, atol=1e-15)


@pytest.mark.parametrize(("dtype", "bits"), [("float32", 24), ("bfloat16", 8)])
def test_the_errors_are_counted_in_ulp(dtype: str, bits: int) -> None:
    work = Work("gradient", (2, 16), True, dtype)
    want = right(work, drawn(work))
    wrong = want.gradient.copy()
    exponent = np.frexp(np.abs(wrong[1, 5]))[1] - 1
    wrong[1, 5] += 3 * 2.0 ** (exponent - (bits - 1))

    def errors(value: float, gradient: Any, losses: Any = want.losses) -> dict[str, Any]:
        call = Call(lambda: None, answer=lambda got: got, losses=lambda: losses)
        return compared(work, call, (value, gradient), want)

    found = errors(want.value, wrong, want.losses * np.asarray([0.5, 1 + 2.0**-22]))
    assert 2.9 < found["gradient_ulp"] < 3.1
    assert 2 <= found["value_ulp"] <= 4
    assert found["tail"] == -0.5
    assert errors(want.value, want.gradient)["gradient_ulp"] == 0
    assert errors(want.value, wrong, np.full(2, np.nan))["value_ulp"] == BEYOND
    for value in (1.1 * want.value, float("nan")):
        with pytest.raises(NotOffered, match="computes something else"):
            errors(value, wrong)
    with pytest.raises(NotOffered, match="another gradient"):
        errors(want.value, 1.1 * want.gradient)
