"""Dask: rows of unknown number. What was filtered alike computes, whatever the function and the
chunks; what does not fit is refused when it is computed, and the error names the argument."""

from __future__ import annotations

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
N, C, D = 13, 5, 3
Z = RNG.standard_normal((N, C)) * 3
P = np.asarray(xloss.softmax(Z))
T = RNG.random((N, C))
Y = RNG.integers(0, C, N)
SAMPLE, WHERE, WEIGHT, UP = RNG.random(N), RNG.random(N) > 0.3, RNG.random(C), RNG.random(N)
KEEP = np.arange(N) % 3 != 1
FEATURES, MATRIX, BIAS = RNG.random((N, D)), RNG.random((C, D)), RNG.random(C)
INPUTS = {
    "cross_entropy": Z,
    "focal_loss": Z,
    "nll_loss": np.log(P),
    "log_loss": P,
    "kl_div": np.log(P),
    "binary_cross_entropy_with_logits": Z,
    "binary_cross_entropy": P,
    "sigmoid_focal_loss": Z,
    "linear_cross_entropy": FEATURES,
}


def filtered(a: np.ndarray, chunks: Any) -> Any:
    """Return a filtered Dask array: the lengths of its chunks are not known."""
    rows = chunks[0] if isinstance(chunks, tuple) else chunks
    return da.from_array(a, chunks=chunks)[da.from_array(KEEP, chunks=rows)]


def computed(made: Any) -> Any:
    return dask.compute(made, scheduler="sync")[0]


# A few roundings of float64, in sums of a dozen.
close = partial(np.testing.assert_allclose, rtol=1e-13, atol=1e-15, strict=True)


@pytest.mark.parametrize(
    ("name", "classes"),
    core(product(INPUTS, (C, 2)), lambda name, classes: classes == 2),
)
def test_every_loss_and_its_gradients(name: str, classes: int) -> None:
    """Labels and soft targets, weights, a cotangent: each cut as the logits are."""
    linear, binary = name == "linear_cross_entropy", "binary" in name or "sigmoid" in name
    x, f = INPUTS[name], getattr(xloss, name)
    beside = (MATRIX,) if linear else ()
    by_class = {"class_weight": WEIGHT, "bias": BIAS} if linear else {"weight": WEIGHT}
    by_class = {} if binary or name == "kl_div" else by_class
    by_row = {"sample_weight": T, "where": T > 0.3} if binary else {}
    by_row = by_row or {"sample_weight": SAMPLE, "where": WHERE}
    for t, how in product([T] if binary or name == "kl_div" else [Y, T], ("mean", "none")):
        rows = by_row if how == "mean" else {**by_row, "cotangent": T if binary else UP}
        of = (0, *((1, "bias") if linear else ()), *((1 + linear,) if t is T else ()))
        gradients = xloss.value_and_grad(f, of)
        lazy = {k: filtered(a, (4, *a.shape[1:])) for k, a in rows.items()}
        lazy |= {k: da.from_array(a, chunks=3) for k, a in by_class.items()}
        others = (*(da.from_array(a, chunks=2) for a in beside), filtered(t, (4, *t.shape[1:])))
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
    x, t, y, w = filtered(Z, (4, 2)), filtered(T, (4, 5)), filtered(Y, 4), filtered(SAMPLE, 4)
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


def test_chunks_that_cannot_be_paired() -> None:
    """Of other numbers, and lengths that are not known: the error says what makes them known."""
    x, count = filtered(Z, (4, 2)), int(KEEP.sum())
    odd = {"targets": da.from_array(Y[KEEP], chunks=count), "sample_weight": filtered(SAMPLE, 7)}
    for name, a in odd.items():
        given = {"targets": filtered(Y, 4), name: a}
        with pytest.raises(ValueError, match=rf"^{name}: .* call compute_chunk_sizes\(\)"):
            xloss.cross_entropy(x, given.pop("targets"), **given)
    x.compute_chunk_sizes()
    close(computed(xloss.cross_entropy(x, odd["targets"])), xloss.cross_entropy(Z[KEEP], Y[KEEP]))
