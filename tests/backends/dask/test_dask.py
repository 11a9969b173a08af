"""Dask: nothing computed while a graph is built; chunks along rows and classes, never rechunked.

Rows of unknown number: what was filtered alike computes, whatever the function and the
chunks; what does not fit is refused when it is computed, and the error names the argument.
"""

from __future__ import annotations

import contextlib
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest

import xloss
from expected import BINARY, CLASS, LOSSES, inputs, loss, soft, targets
from nightly import core

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


RNG = np.random.default_rng(0)
N, C, D = 13, 5, 3
Z = RNG.standard_normal((N, C)) * 3
T = RNG.random((N, C))
Y = RNG.integers(0, C, N)
SAMPLE, WHERE, WEIGHT, UP = RNG.random(N), RNG.random(N) > 0.3, RNG.random(C), RNG.random(N)
KEEP = np.arange(N) % 3 != 1
FEATURES, MATRIX, BIAS = RNG.random((N, D)), RNG.random((C, D)), RNG.random(C)


def filtered(a: np.ndarray, chunks: Any) -> Any:
    """Return a filtered Dask array: the lengths of its chunks are not known."""
    rows = chunks[0] if isinstance(chunks, tuple) else chunks
    return da.from_array(a, chunks=chunks)[da.from_array(KEEP, chunks=rows)]


def computed(made: Any) -> Any:
    return dask.compute(made, scheduler="sync")[0]


# A few roundings of float64, in sums of a dozen.
close = partial(np.testing.assert_allclose, rtol=1e-13, atol=1e-15, strict=True)


def cut_otherwise(a: np.ndarray, cut: int) -> Any:
    """The same rows in the logits' chunks, in other ones, and of known lengths."""
    wide = a.shape[1:]
    if cut < 2:
        return filtered(a, ((4, 7)[cut], *wide))
    return da.from_array(a[KEEP], chunks=((5, N)[cut - 2], *wide))


@pytest.mark.parametrize(
    ("name", "classes", "cut"),
    core(
        product((*LOSSES, "linear_cross_entropy"), (C, 2), range(4)),
        lambda name, classes, cut: classes == 2 and (cut == 1 or name == "cross_entropy"),
    ),
)
def test_every_loss_and_its_gradients(name: str, classes: int, cut: int) -> None:
    """Labels and soft targets, weights, a cotangent: each cut as the logits are, or otherwise."""
    linear, binary = name == "linear_cross_entropy", "binary" in name or "sigmoid" in name
    x, f = FEATURES if linear else inputs(name, (N, C)), getattr(xloss, name)
    beside = (MATRIX,) if linear else ()
    by_class = {"class_weight": WEIGHT, "bias": BIAS} if linear else {"weight": WEIGHT}
    by_class = {} if binary or name == "kl_div" else by_class
    by_row = {"sample_weight": T, "where": T > 0.3} if binary else {}
    by_row = by_row or {"sample_weight": SAMPLE, "where": WHERE}
    for t, how in product([T] if binary or name == "kl_div" else [Y, T], ("mean", "none")):
        rows = by_row if how == "mean" else {**by_row, "cotangent": T if binary else UP}
        of = (0, *((1, "bias") if linear else ()), *((1 + linear,) if t is T else ()))
        gradients = xloss.value_and_grad(f, of)
        lazy = {k: cut_otherwise(a, cut) for k, a in rows.items()}
        lazy |= {k: da.from_array(a, chunks=3) for k, a in by_class.items()}
        others = (*(da.from_array(a, chunks=2) for a in beside), cut_otherwise(t, cut))
        made = computed(gradients(filtered(x, (4, classes)), *others, reduction=how, **lazy))
        kept = {k: a[KEEP] for k, a in rows.items()}
        want = gradients(x[KEEP], *beside, t[KEEP], reduction=how, **kept, **by_class)
        for a, b in zip((made[0], *made[1]), (want[0], *want[1]), strict=True):
            close(a, b)


def test_what_is_broadcast_to_rows_of_unknown_number() -> None:
    """A weight of one row stands for all, one of no axis too."""
    x, dense, elementwise = (
        filtered(Z, (4, 2)),
        xloss.cross_entropy,
        xloss.binary_cross_entropy_with_logits,
    )
    for f, t, cut, weights in (
        (dense, Y, 4, (np.array([0.3]), np.asarray(0.3))),
        (elementwise, T, (4, 5), (WEIGHT, SAMPLE[:1, None])),
    ):
        for w in weights:
            got = f(x, filtered(t, cut), sample_weight=da.from_array(w), reduction="sum")
            close(computed(got), f(Z[KEEP], t[KEEP], sample_weight=w, reduction="sum"))


def test_functions_around_a_loss() -> None:
    """Each op, the record and the diagnosis."""
    x, t, y, w = filtered(Z, (4, 2)), filtered(T, (4, 5)), filtered(Y, 4), filtered(SAMPLE, 7)
    weight = da.from_array(WEIGHT)
    given = {"sample_weight": SAMPLE[KEEP], "weight": WEIGHT}
    lazily = {"sample_weight": w, "weight": weight}
    for name in ("softmax", "log_softmax", "logsumexp", "entropy"):
        close(computed(getattr(xloss, name)(x)), getattr(xloss, name)(Z[KEEP]))
    close(computed(xloss.logsumexp(x, keepdims=True)), xloss.logsumexp(Z[KEEP], keepdims=True))
    close(computed(xloss.one_hot(y, C, axis=0)), xloss.one_hot(Y[KEEP], C, axis=0))
    close(computed(xloss.smooth_labels(t, 0.1)), xloss.smooth_labels(T[KEEP], 0.1))
    for lazy, a in ((y, Y[KEEP]), (t, T[KEEP])):
        close(computed(xloss.effective_count(lazy, **lazily)), xloss.effective_count(a, **given))
        got = xloss.Evaluation().update(x, lazy, **lazily).result()
        want = xloss.Evaluation().update(Z[KEEP], a, **given).result()
        assert (got.rows, got.accuracy) == (want.rows, want.accuracy)
        assert got.loss == pytest.approx(want.loss, rel=1e-14)
        assert str(xloss.diagnose(x, lazy, **lazily)) == str(xloss.diagnose(Z[KEEP], a, **given))


def in_parts(a: np.ndarray, first: int, then: int) -> Any:
    """Return two chunks that Dask knows no length of."""
    cut = [a[:first], a[10 - then : 10]] if first + then <= 10 else [a[:first], a[:then]]
    return da.concatenate(
        [da.from_delayed(dask.delayed(p), (np.nan, *a.shape[1:]), dtype=a.dtype) for p in cut]
    )


@pytest.mark.parametrize("parts", [(5, 4), (1, 9), (5, 1)])
@pytest.mark.parametrize("what", ["targets", "soft", "sample_weight", "where", "cotangent"])
def test_chunks_that_do_not_fit(what: str, parts: tuple[int, int]) -> None:
    """Beside two chunks of 5 rows; one of one row is not broadcast, none is read beyond its end."""
    arrays = {"targets": Y, "soft": T, "sample_weight": SAMPLE, "where": WHERE, "cotangent": UP}
    odd = in_parts(arrays[what], *parts)
    name = "targets" if what == "soft" else what
    given = {"targets": in_parts(Y, 5, 5), name: odd}
    t, how = given.pop("targets"), "none" if what == "cotangent" else "sum"
    x = in_parts(Z, 5, 5)
    gradients = {
        loss: xloss.value_and_grad(getattr(xloss, loss))
        for loss in ("cross_entropy", "focal_loss", "nll_loss", "linear_cross_entropy")
    }
    linear = gradients.pop("linear_cross_entropy")
    calls = [partial(f, z, t) for f in gradients.values() for z in (x, x.rechunk({1: 2}))]
    calls.append(partial(linear, in_parts(FEATURES, 5, 5), da.from_array(MATRIX), t))
    for call in calls:
        with pytest.raises(ValueError, match=f"^{name}: in a chunk"):
            computed(call(**given, reduction=how)[1])
    if what != "cotangent":
        for call in (xloss.Evaluation().update, xloss.diagnose):
            with pytest.raises(ValueError, match=f"^{name}: in a chunk"):
                call(x, t, **given)


def test_a_whole_that_does_not_fit() -> None:
    """Arrays of other numbers of chunks are compared by their lengths."""
    x, count = filtered(Z, (4, 2)), int(KEEP.sum())
    odd = {"targets": Y[: count - 1], "sample_weight": SAMPLE[: count - 1]}
    for name, a in odd.items():
        given = {"targets": filtered(Y, 4), name: da.from_array(a, chunks=3)}
        with pytest.raises(ValueError, match=rf"^{name}: expected length {count} along axis 0"):
            computed(xloss.cross_entropy(x, given.pop("targets"), **given))
