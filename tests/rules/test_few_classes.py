"""Targets of a few classes a row are the same as soft targets that are written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from libraries import across
from xloss import TopKTargets, cross_entropy, linear_cross_entropy, value_and_grad

ROWS, CLASSES = 5, 7
# A class in two slots, an empty slot, a class of probability 0, and a list that adds up to 1.
INDICES = np.array([[0, 1, 1], [2, 3, 4], [6, -100, 5], [1, 2, 0], [3, 6, 2]])
LISTED = np.array(
    [[0.5, 0.125, 0.25], [0.25, 0.0, 0.5], [0.125, 9.0, 0.25], [0.5, 0.25, 0.25], [0.375] * 3]
)
LOGITS = np.round(np.random.default_rng(20261126).normal(size=(ROWS, CLASSES)) * 3, 2)
WEIGHT = np.array([0.5, 2.0, 1.0, 0.25, 1.5, 0.0, 1.0])
SAMPLE = np.array([1.0, 0.5, 2.0, 1.0, 0.0])
WHERE = np.array([True, True, True, False, True])

OPTIONS: dict[str, dict[str, Any]] = {
    "all": {
        "weight": WEIGHT,
        "sample_weight": SAMPLE,
        "where": WHERE,
        "label_smoothing": 0.125,
        "z_loss": 0.25,
        "softcap": 5.0,
        "normalizer": 2.0,
    },
    "none": {"reduction": "none"},
    "plain": {},
    "weight": {"weight": WEIGHT},
    "sample_weight": {"sample_weight": SAMPLE},
    "where": {"where": WHERE},
    "label_smoothing": {"label_smoothing": 0.25},
    "all smoothing": {"label_smoothing": 1.0},
    "z_loss": {"z_loss": 0.125},
    "softcap": {"softcap": 3.0},
    "sum": {"reduction": "sum"},
    "normalizer": {"normalizer": 3.0},
}


def written_out(
    rest: str, indices: np.ndarray = INDICES, listed: np.ndarray = LISTED
) -> np.ndarray:
    """The soft targets of all classes, by the definition."""
    t = np.zeros((len(indices), CLASSES))
    for row, (places, probs) in enumerate(zip(indices, listed, strict=True)):
        in_list = set(places[places >= 0])
        for j, p in zip(places, probs, strict=True):
            if j >= 0:
                t[row, j] += p
        left = 1.0 - t[row].sum()
        others = [j for j in range(CLASSES) if j not in in_list]
        if rest == "uniform" and left > 0:
            t[row, others] = left / len(others)
    return t


def to_slots(h: np.ndarray, rest: str, indices: np.ndarray = INDICES, t: Any = None) -> np.ndarray:
    """What the chain rule makes of a gradient to targets of all classes: one for each slot.

    A listed probability moves its class, and takes from the rest what it gains.
    """
    out = np.zeros(indices.shape)
    for row, places in enumerate(indices):
        others = [j for j in range(CLASSES) if j not in set(places)]
        takes = rest == "uniform" and t[row, others].sum() > 0
        for slot, j in enumerate(places):
            if j >= 0:
                out[row, slot] = h[row, j] - (h[row, others].mean() if takes else 0.0)
    return out


def close(lib: Any, got: Any, expected: Any, least: float = 1.0) -> None:
    """Agreement to a few ulp of float32; the sums' terms are at most about 10."""
    np.testing.assert_allclose(lib.host(got), expected, rtol=2e-6, atol=4e-6 * least)


@pytest.mark.parametrize("rest", ["zero", "uniform"])
@across(tuple(OPTIONS), dask=2)
def test_a_list_is_the_same_soft_targets_written_out(lib: Any, name: str, rest: str) -> None:
    dense = written_out(rest)
    expected, (g, h) = value_and_grad(cross_entropy, (0, 1))(LOGITS, dense, **OPTIONS[name])
    teacher = TopKTargets(lib.like(INDICES), lib.like(LISTED), rest)
    x, options = lib.like(LOGITS), lib.given(OPTIONS[name])
    with lib.used():
        close(lib, cross_entropy(x, teacher, **options), expected)
        value, grads = value_and_grad(cross_entropy, (0, "targets"))(x, teacher, **options)
    close(lib, value, expected)
    close(lib, grads[0], g)
    assert grads[1].shape == INDICES.shape
    close(lib, grads[1], to_slots(h, rest, t=dense), 4.0)


@pytest.mark.parametrize("rest", ["zero", "uniform"])
@across(tuple(OPTIONS), dask=2)
def test_a_list_beside_features_is_the_same_soft_targets(lib: Any, name: str, rest: str) -> None:
    rng = np.random.default_rng(3)
    features = np.round(rng.normal(size=(ROWS, 3)), 2)
    matrix, bias = np.round(rng.normal(size=(CLASSES, 3)), 2), np.linspace(-1.0, 1.0, CLASSES)
    own = dict(OPTIONS[name])
    if "weight" in own:
        own["class_weight"] = own.pop("weight")
    dense, names = written_out(rest), (0, 1, 2, "bias")
    expected, (g, w, h, b) = value_and_grad(linear_cross_entropy, names)(
        features, matrix, dense, bias=bias, **own
    )
    teacher = TopKTargets(lib.like(INDICES), lib.like(LISTED), rest)
    arrays = [lib.like(a) for a in (features, matrix)]
    options = lib.given(own)
    with lib.used():
        value, grads = value_and_grad(linear_cross_entropy, names)(
            *arrays, teacher, bias=lib.like(bias), block_rows=2, **options
        )
        close(lib, linear_cross_entropy(*arrays, teacher, bias=lib.like(bias), **options), expected)
    close(lib, value, expected)
    for got, want in zip(grads, (g, w, to_slots(h, rest, t=dense), b), strict=True):
        close(lib, got, want, 4.0)
