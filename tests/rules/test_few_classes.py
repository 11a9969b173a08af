"""Targets of a few classes a row: beside features, bad indices, axes, refusals.

What they are worth is held by the suite's family "top k".
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import xloss
from expected import LOSSES
from xloss import TopKTargets, cross_entropy, linear_cross_entropy, value_and_grad

ROWS, CLASSES = 5, 7
# A class in two slots, an empty slot, a class of probability 0, and a list that adds up to 1.
INDICES = np.array([[0, 1, 1], [2, 3, 4], [6, -100, 5], [1, 2, 0], [3, 6, 2]])
LISTED = np.array(
    [[0.5, 0.125, 0.25], [0.25, 0.0, 0.5], [0.125, 9.0, 0.25], [0.5, 0.25, 0.25], [0.375] * 3]
)
without_numba = xloss.engines()["cpu"] is not None
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "all": {
        "class_weight": np.array([0.5, 2.0, 1.0, 0.25, 1.5, 0.0, 1.0]),
        "sample_weight": np.array([1.0, 0.5, 2.0, 1.0, 0.0]),
        "where": np.array([True, True, True, False, True]),
        "label_smoothing": 0.125,
        "z_loss": 0.25,
        "softcap": 5.0,
    },
}


@pytest.mark.parametrize("rest", ["zero", "uniform"])
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("lib", ["numpy", "no_x64", "torch"], indirect=True)
def test_a_list_beside_features_is_the_list_beside_their_logits(
    lib: Any, name: str, rest: Any
) -> None:
    rng = np.random.default_rng(3)
    x, options = np.round(rng.normal(size=(ROWS, 3)), 2), OPTIONS[name]
    w, bias = np.round(rng.normal(size=(CLASSES, 3)), 2), np.linspace(-1.0, 1.0, CLASSES)
    dense = {"weight" if k == "class_weight" else k: v for k, v in options.items()}
    teacher = TopKTargets(INDICES, LISTED, rest)
    want, (g, slots) = value_and_grad(cross_entropy, (0, 1))(x @ w.T + bias, teacher, **dense)
    teacher = TopKTargets(lib.like(INDICES), lib.like(LISTED), rest)
    run = value_and_grad(linear_cross_entropy, (0, 1, 2, "bias"))
    given = {"bias": lib.like(bias), "block_rows": 2, **lib.given(options)}
    value, grads = run(lib.like(x), lib.like(w), teacher, **given)
    np.testing.assert_allclose(lib.host(value), want, rtol=2e-6)
    for got, exact in zip(grads, (g @ w, g.T @ x, slots, g.sum(0)), strict=True):
        np.testing.assert_allclose(lib.host(got), exact, rtol=2e-6, atol=1.6e-5)


def test_a_bad_index_raises_where_it_is_read_and_is_nan_elsewhere(lib: Any) -> None:
    z, indices = np.zeros((3, 4)), np.array([[0, 1], [2, 4], [-1, 3]])
    teacher = TopKTargets(lib.like(indices), lib.array(np.full((3, 2), 0.5)))
    with lib.used():
        if lib.reads:
            message = r"targets: indices: label 4 at position \(1, 1\) is outside \[0, 4\)"
            with pytest.raises(IndexError, match=message):
                cross_entropy(lib.array(z), teacher)
        rows, g = value_and_grad(cross_entropy)(
            lib.array(z), teacher, reduction="none", validate=False
        )
        # Absent rows are exempt.
        where = lib.array([True, False, False], "bool")
        assert np.isfinite(lib.host(cross_entropy(lib.array(z), teacher, where=where)))
    assert np.isnan(lib.host(rows)).tolist() == [False, True, True]
    assert np.isnan(lib.host(g)).all(axis=1).tolist() == [False, True, True]


def test_the_position_of_a_bad_index_is_that_in_the_users_array() -> None:
    z, indices = np.zeros((2, 4, 3)), np.zeros((2, 2, 3), dtype=np.int8)
    indices[1, 1, 2] = 7
    probs = np.full((2, 2, 3), 0.5)
    with pytest.raises(IndexError, match=r"label 7 at position \(1, 1, 2\) .* for 4 classes"):
        cross_entropy(z, TopKTargets(indices, probs), axis=1)
    indices[1, 1, 2] = 0
    probs[1, 0, 2] = -0.5
    with pytest.raises(ValueError, match=r"targets: negative at position \(1, 0, 2\)"):
        cross_entropy(z, TopKTargets(indices, probs), axis=1, validate=True)


def test_the_slots_stand_where_the_classes_do() -> None:
    rng = np.random.default_rng(3)
    z, p = rng.normal(size=(2, 5, 3)), rng.random((2, 2, 3)) / 2
    indices = rng.integers(0, 5, (2, 2, 3))
    run = value_and_grad(cross_entropy, (0, 1))
    last = [np.moveaxis(a, 1, -1) for a in (z, indices, p)]
    want, grads = run(last[0], TopKTargets(*last[1:]))
    value, got = run(z, TopKTargets(indices, p), axis=1)
    np.testing.assert_allclose(value, want, rtol=1e-15)
    for g, h in zip(got, grads, strict=True):
        np.testing.assert_allclose(g, np.moveaxis(h, -1, 1), rtol=1e-14)


@pytest.mark.parametrize("engine", [n for n in ("generic", "cpu") if xloss.engines()[n] is None])
def test_a_row_has_the_same_bits_alone(engine: Any) -> None:
    """A rest that is spread evenly is written out, a block of rows at a time."""
    rng, both = np.random.default_rng(5), value_and_grad(cross_entropy)
    z, k = rng.normal(size=(600, 1000)).astype("f4"), rng.integers(0, 1000, (600, 4))
    p = rng.random((600, 4)) / 4
    with xloss.use_engine(engine):
        rows, g = both(z, TopKTargets(k, p, "uniform"), reduction="none")
        for i in (slice(0, 1), slice(7, 8), slice(599, 600)):
            one, h = both(z[i], TopKTargets(k[i], p[i], "uniform"), reduction="none")
            assert (one.tobytes(), h.tobytes()) == (rows[i].tobytes(), g[i].tobytes())


@pytest.mark.parametrize(
    ("teacher", "error", "message"),
    [
        ((np.zeros((2, 3)), np.ones((2, 3))), TypeError, "targets: indices: expected an integer"),
        ((np.zeros((2, 3), int), np.ones((2, 3), int)), TypeError, "targets: probabilities: exp"),
        ((np.zeros((2, 3), int), np.ones((2, 2))), ValueError, "targets: probabilities: expected"),
        ((np.zeros(2, int), np.ones(2)), ValueError, "targets: indices: expected the shape of"),
        ((np.zeros((2, 0), int), np.ones((2, 0))), ValueError, "at least one class a row"),
        ((np.zeros((2, 1), int), np.ones((2, 1)), "even"), ValueError, "targets: rest: expected"),
    ],
)
def test_a_wrong_list_is_refused_by_name(teacher: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        cross_entropy(np.zeros((2, 4)), TopKTargets(*teacher))
    with pytest.raises(error, match=message):
        linear_cross_entropy(np.zeros((2, 5)), np.zeros((4, 5)), TopKTargets(*teacher))


def test_other_losses_say_what_they_take_instead() -> None:
    z, teacher = np.full((1, 2), 0.5), TopKTargets(np.array([[0]]), np.array([[1.0]]))
    for name in set(LOSSES) - {"cross_entropy"}:
        with pytest.raises(TypeError, match=f"targets: {name} takes no TopKTargets"):
            getattr(xloss, name)(z, teacher)
    with pytest.raises(TypeError, match="takes no TopKTargets"):
        xloss.vocab_parallel_cross_entropy(z, teacher, group=None)


@pytest.mark.skipif(without_numba, reason="Numba is not installed")
def test_a_compiled_engine_says_which_lists_it_does_not_take() -> None:
    few = TopKTargets(np.array([[1]]), np.array([[0.5]]), "uniform")
    unavailable = pytest.raises(xloss.EngineUnavailable, match="rest that is spread evenly")
    with xloss.use_engine("cpu"), unavailable:
        cross_entropy(np.zeros((1, 3)), few, z_loss=2.0)
