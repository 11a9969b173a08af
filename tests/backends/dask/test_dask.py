"""Dask: nothing computed while a graph is built; chunks along rows and classes, never rechunked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest

import xloss
from nightly import core

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

RNG = np.random.default_rng(0)
Z = RNG.standard_normal((6, 8, 5)) * 4
Z[0, 2, 1] = -np.inf
Z[3, :4, 2] = -np.inf  # the first chunks of a row hold no possible class
Y = RNG.integers(0, 8, (6, 5))
Y[0, 0] = -100
T = RNG.random((6, 8, 5))
T /= T.sum(1, keepdims=True)
WEIGHT, SAMPLE, WHERE = RNG.random(8), RNG.random((6, 5)), RNG.random((6, 5)) > 0.2
CHUNKS = (8, 3, 1)
# A few roundings of float64 in sums of 8: the pieces are summed apart.
close = partial(np.testing.assert_allclose, rtol=3e-14, atol=1e-15, strict=True)


def refuse(*args: Any, **kwargs: Any) -> Any:
    raise AssertionError("computed while the graph is built")


def chunked(a: np.ndarray, chunks: tuple[int, ...]) -> Any:
    return da.from_array(a, chunks=chunks)


def inputs(name: str) -> np.ndarray:
    if name in ("nll_loss", "kl_div"):
        return np.asarray(xloss.log_softmax(Z, axis=1))
    return np.asarray(xloss.softmax(Z, axis=1)) if name == "log_loss" else Z


def options() -> Iterator[dict[str, Any]]:
    """Half of all combinations: any three settings stand together in every way."""
    for eps, weighted, sampled, how in product((0.0, 0.1), (0, 1), (0, 1), ("mean", "none")):
        if ((eps > 0) + weighted + sampled + (how == "none")) % 2:
            continue
        given: dict[str, Any] = {"axis": 1, "label_smoothing": eps, "reduction": how}
        if weighted:
            given["weight"] = WEIGHT
        if sampled:
            given.update(sample_weight=SAMPLE, where=WHERE)
        yield given


def lazily(given: dict[str, Any]) -> dict[str, Any]:
    cuts = {"weight": (3,), "sample_weight": (2, 5), "where": (6, 2)}
    return {k: chunked(v, cuts[k]) if k in cuts else v for k, v in given.items()}


@pytest.mark.parametrize(
    ("name", "classes"),
    core(
        product(("cross_entropy", "focal_loss", "nll_loss", "log_loss"), CHUNKS),
        lambda name, classes: name == "cross_entropy" or (name, classes) == ("focal_loss", 3),
    ),
)
def test_class_losses(name: str, classes: int) -> None:
    """Options together, on labels and on soft targets, value and gradients.

    The other losses have theirs by day in the rules and the suite, and in test_unknown.py.
    """
    loss, x = getattr(xloss, name), inputs(name)
    for given, t in product(options(), (Y, T)):
        if name == "cross_entropy" and given["reduction"] == "mean":
            given = {**given, "z_loss": 0.1, "softcap": 5.0}
        which: Any = 0 if t is Y else (0, 1)
        with dask.config.set(scheduler=refuse):
            cut = (4, 2) if t is Y else (6, 8, 5)
            lazy = chunked(x, (4, classes, 2)), chunked(t, cut)
            made = xloss.value_and_grad(loss, which)(*lazy, **lazily(given))
            alone = loss(*lazy, **lazily(given))
        value, grads, alone = dask.compute(*made, alone, scheduler="sync")
        want, want_grads = xloss.value_and_grad(loss, which)(x, t, **given)
        close(value, want)
        close(alone, want)
        for g, w in zip(grads, want_grads, strict=True) if t is T else [(grads, want_grads)]:
            close(g, w)


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
        loss = xloss.cross_entropy(z, y, label_smoothing=0.1)
        return len(dict(loss.__dask_graph__()))

    few, many = tasks(8), tasks(16)
    assert many <= 2.1 * few
    z = da.zeros((4, 1024), chunks=(4, 64))
    _, g = xloss.value_and_grad(xloss.cross_entropy)(z, da.zeros(4, dtype=np.int64, chunks=4))
    assert g.chunks == z.chunks


@pytest.mark.parametrize("engine", ["any", "generic"])
@pytest.mark.parametrize("name", ["cross_entropy", "focal_loss", "nll_loss"])
def test_chunks_of_many_classes(name: str, engine: str) -> None:
    """Chunks of more than one block of rows, and of classes enough for each kernel."""
    rng = np.random.default_rng(1)
    rows, classes = (20, 40), 500
    x = rng.standard_normal((*rows, classes)) * 3
    x[0, 0, :250] = -np.inf
    x[0, 1, 3] = np.nan
    x[1, 1, [3, 400]] = np.inf
    x = np.asarray(xloss.log_softmax(x)) if name == "nll_loss" else x
    y = rng.integers(0, classes, rows)
    y[2, 3] = -100
    t = rng.random((*rows, classes))
    weight, sample, where = rng.random(classes), rng.random(rows), rng.random(rows) > 0.2
    weight[y[4, 4]] = 0.0
    more = {"z_loss": 0.1, "softcap": 20.0} if name == "cross_entropy" else {}
    loss = xloss.value_and_grad(getattr(xloss, name))
    for target, options in product(
        (y, t),
        (
            {},
            {"weight": weight, "sample_weight": sample, "where": where},
            {"label_smoothing": 0.1, **more},
            {**more, "weight": weight},
        ),
    ):
        cuts = {"weight": (99,), "sample_weight": rows, "where": (7, 40)}
        lazy = {k: chunked(v, cuts[k]) if k in cuts else v for k, v in options.items()}
        target_cut = (20, 40) if target is y else (20, 40, 200)
        with contextlib.nullcontext() if engine == "any" else xloss.use_engine(engine):
            given = chunked(x, (20, 40, 200)), chunked(target, target_cut)
            made = loss(*given, reduction="none", **lazy)
        value, grad = dask.compute(*made, scheduler="sync")
        want, want_grad = loss(x, target, reduction="none", **options)
        np.testing.assert_allclose(value, want, rtol=1e-13)
        assert (np.isnan(grad) == np.isnan(want_grad)).all()
        off, largest = np.nan_to_num(abs(grad - want_grad)), np.nan_to_num(abs(want_grad))
        assert (off <= 32 * 2.0**-52 * largest.max(-1, keepdims=True)).all()
