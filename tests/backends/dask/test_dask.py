"""Dask: nothing computed while a graph is built; chunks along rows and classes, never rechunked."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest

import xloss
from expected import BINARY, CLASS, LOSSES, inputs, loss, soft, targets

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")


def chunked(a: np.ndarray, chunks: tuple[int, ...]) -> Any:
    return da.from_array(a, chunks=chunks)


def refuse(*args: Any, **kwargs: Any) -> Any:
    raise AssertionError("computed while the graph is built")


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_is_computed_while_the_graph_is_built(name: str) -> None:
    """Values are the suite's, whose Dask arrays have chunks of classes too."""
    x = inputs(name, (6, 8))
    weight = {"weight": chunked(np.arange(8.0), (3,))}
    sample = chunked(np.arange(6.0)[:, None] if name in BINARY else np.arange(6.0), 5)
    with dask.config.set(scheduler=refuse):
        for t in (targets(name, x.shape), soft(x.shape)):
            z, t = chunked(x, (4, 3)), chunked(t, (4, 2)[: t.ndim])
            which: Any = (0, 1) if t.ndim == 2 else 0
            options = {"sample_weight": sample, **(weight if name in CLASS else {})}
            for given in ({}, options, {"reduction": "none"}):
                loss(name)(z, t, **given)
                xloss.value_and_grad(loss(name), which)(z, t, **given)


def test_the_tail_survives_the_merge() -> None:
    """A confident row cut into pieces keeps its digits: 1e-17 beside 1."""
    z = np.full((1, 8), -40.0)
    z[0, 5] = 0.0
    y = np.array([5])
    got = xloss.cross_entropy(chunked(z, (1, 2)), chunked(y, (1,))).compute(scheduler="sync")
    np.testing.assert_array_max_ulp(got, np.log1p(7 * np.exp(-40.0)), 2)


def test_graph_is_linear_and_holds_no_whole_row() -> None:
    """Twice the chunks, twice the tasks; no chunk of the class axis's whole length."""

    def tasks(n: int) -> int:
        z = da.zeros((4, 64 * n), chunks=(4, 64))
        y = da.zeros(4, dtype=np.int64, chunks=4)
        value = xloss.cross_entropy(z, y, label_smoothing=0.1)
        return len(dict(value.__dask_graph__()))

    few, many = tasks(8), tasks(16)
    assert many <= 2.1 * few
    z = da.zeros((4, 1024), chunks=(4, 64))
    _, g = xloss.value_and_grad(xloss.cross_entropy)(z, da.zeros(4, dtype=np.int64, chunks=4))
    assert g.chunks == z.chunks


@pytest.mark.parametrize("engine", ["any", "generic"])
@pytest.mark.parametrize("name", ["cross_entropy", "focal_loss"])
def test_chunks_of_many_classes(name: str, engine: str) -> None:
    """Chunks of more than one block of rows, and of classes enough for each kernel."""
    rng = np.random.default_rng(1)
    rows, classes = (20, 40), 500
    x = rng.standard_normal((*rows, classes)) * 3
    x[0, 0, :250] = -np.inf
    x[0, 1, 3] = np.nan
    x[1, 1, [3, 400]] = np.inf
    y = rng.integers(0, classes, rows)
    y[2, 3] = -100
    weight, sample = rng.random(classes), rng.random(rows)
    weight[y[4, 4]] = 0.0
    given = {"weight": weight, "sample_weight": sample, "reduction": "none"}
    lazy = {**given, "weight": chunked(weight, (99,)), "sample_weight": chunked(sample, rows)}
    f = xloss.value_and_grad(loss(name))
    for t, cut in ((y, (20, 40)), (rng.random((*rows, classes)), (20, 40, 200))):
        with xloss.use_engine(engine) if engine == "generic" else contextlib.nullcontext():
            made = f(chunked(x, (20, 40, 200)), chunked(t, cut), **lazy)
        value, grad = dask.compute(*made, scheduler="sync")
        want, want_grad = f(x, t, **given)
        np.testing.assert_allclose(value, want, rtol=1e-13)
        assert (np.isnan(grad) == np.isnan(want_grad)).all()
        off, largest = np.nan_to_num(abs(grad - want_grad)), np.nan_to_num(abs(want_grad))
        assert (off <= 32 * 2.0**-52 * largest.max(-1, keepdims=True)).all()


def test_where_no_row_counts_every_gradient_is_0() -> None:
    """Whatever stands in the features: a gradient of 0 times a NaN is NaN."""
    x, w = np.where(np.arange(6) == 1, np.nan, inputs("focal_loss", (4, 6))), np.ones((5, 6))
    f = xloss.value_and_grad(xloss.linear_cross_entropy, (0, 1, "bias"))
    bias, weight = chunked(np.zeros(5), (2,)), chunked(np.zeros(5), (2,))
    for t, given in ((np.arange(4), {"class_weight": weight}), (np.zeros((4, 5)), {})):
        made = f(
            chunked(x, (2, 2)), chunked(w, (2, 6)), chunked(t, (2, 2)[: t.ndim]), bias=bias, **given
        )
        value, grads = dask.compute(*made, scheduler="sync")
        assert value == 0.0
        assert not any(g.any() for g in grads)
