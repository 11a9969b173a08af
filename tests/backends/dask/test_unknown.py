"""Dask: rows of unknown number. What was filtered alike computes, whatever the function and the
chunks; what does not fit is refused when it is computed, and the error names the argument."""

from __future__ import annotations

import itertools
from functools import partial
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
}


def filtered(a: np.ndarray, chunks: Any) -> Any:
    """Return a filtered Dask array: the lengths of its chunks are not known."""
    rows = chunks[0] if isinstance(chunks, tuple) else chunks
    return da.from_array(a, chunks=chunks)[da.from_array(KEEP, chunks=rows)]


# A few roundings of float64, in sums of a dozen.
close = partial(np.testing.assert_allclose, rtol=1e-13, atol=1e-15, strict=True)


def rows_cut_otherwise(a: np.ndarray) -> list[Any]:
    """The same rows in the logits' chunks, in other ones, and of known lengths."""
    wide = a.shape[1:]
    known = [da.from_array(a[KEEP], chunks=(n, *wide)) for n in (5, N)]
    return [filtered(a, (4, *wide)), filtered(a, (7, *wide)), *known]


@pytest.mark.parametrize(
    ("name", "classes", "cut"),
    core(
        itertools.product(INPUTS, (C, 2), range(4)),
        lambda name, classes, cut: (name == "cross_entropy" and classes == 2) or cut == 1,
    ),
)
def test_every_loss_and_its_gradients(name: str, classes: int, cut: int) -> None:
    """Labels and soft targets, weights, a cotangent: each cut as the logits are, or otherwise."""
    binary = "binary" in name or "sigmoid" in name
    x = INPUTS[name]
    loss = getattr(xloss, name)
    targets = [T] if binary or name == "kl_div" else [Y, T]
    row = (SAMPLE, WHERE) if not binary else (T, T > 0.3)
    for t, how in itertools.product(targets, ("mean", "none")):
        which: Any = (0, 1) if t is T else (0,)
        options: dict[str, Any] = dict(zip(("sample_weight", "where"), row, strict=True))
        classes_too = {} if binary or name == "kl_div" else {"weight": WEIGHT}
        if how == "none":
            options["cotangent"] = T if binary else UP
        held(
            loss, which, (filtered(x, (4, classes)),), (x[KEEP],), t, how, cut, options, classes_too
        )


def held(
    loss: Any,
    which: Any,
    lazy: tuple[Any, ...],
    plain: tuple[Any, ...],
    t: np.ndarray,
    how: str,
    cut: int,
    by_row: dict[str, Any],
    by_class: dict[str, Any],
) -> None:
    """Hold value and gradients of rows cut in one way to those of NumPy."""
    f = xloss.value_and_grad(loss, which)
    rows = {k: rows_cut_otherwise(a)[cut] for k, a in by_row.items()}
    rest = {k: da.from_array(a, chunks=3) for k, a in by_class.items()}
    value, grads = f(*lazy, rows_cut_otherwise(t)[cut], reduction=how, **rows, **rest)
    kept = {k: a[KEEP] for k, a in by_row.items()}
    want, wanted = f(*plain, t[KEEP], reduction=how, **kept, **by_class)
    got = dask.compute(value, *grads, scheduler="sync")
    for a, b in zip(got, (want, *wanted), strict=True):
        close(a, b)


@pytest.mark.parametrize("cut", range(4))
def test_linear_cross_entropy(cut: int) -> None:
    """Features whose number is unknown, and every gradient."""
    lazy = filtered(FEATURES, (4, 2)), da.from_array(MATRIX, chunks=2)
    for t, how in itertools.product((Y, T), ("mean", "sum", "none")):
        which = (0, 1, "bias", 2) if t is T else (0, 1, "bias")
        by_row = {"sample_weight": SAMPLE, "where": WHERE}
        if how == "none":
            by_row["cotangent"] = UP
        by_class = {"class_weight": WEIGHT, "bias": BIAS}
        plain = FEATURES[KEEP], MATRIX
        held(xloss.linear_cross_entropy, which, lazy, plain, t, how, cut, by_row, by_class)


def test_what_is_broadcast_to_rows_of_unknown_number() -> None:
    """A weight of one row stands for all, one of no axis too."""
    x, y = filtered(Z, (4, 2)), filtered(Y, 4)
    for w in (np.array([0.3]), np.asarray(0.3)):
        got = xloss.cross_entropy(x, y, sample_weight=da.from_array(w), reduction="sum")
        close(
            got.compute(scheduler="sync"),
            xloss.cross_entropy(Z[KEEP], Y[KEEP], sample_weight=w, reduction="sum"),
        )
    t = filtered(T, (4, 5))
    for w in (WEIGHT, SAMPLE[:1, None]):
        got = xloss.binary_cross_entropy_with_logits(x, t, sample_weight=da.from_array(w))
        close(
            got.compute(scheduler="sync"),
            xloss.binary_cross_entropy_with_logits(Z[KEEP], T[KEEP], sample_weight=w),
        )


def test_functions_around_a_loss() -> None:
    """Each op, the record and the diagnosis."""
    x, t, y, w = filtered(Z, (4, 2)), filtered(T, (4, 5)), filtered(Y, 4), filtered(SAMPLE, 7)
    for name in ("softmax", "log_softmax", "logsumexp", "entropy"):
        close(getattr(xloss, name)(x).compute(scheduler="sync"), getattr(xloss, name)(Z[KEEP]))
    kept = xloss.logsumexp(x, keepdims=True)
    close(kept.compute(scheduler="sync"), xloss.logsumexp(Z[KEEP], keepdims=True))
    for axis in (-1, 0):
        hot = xloss.one_hot(y, C, axis=axis).compute(scheduler="sync")
        assert (hot.argmax(axis) == Y[KEEP]).all()
        assert (hot.sum(axis) == 1).all()
    close(xloss.smooth_labels(t, 0.1).compute(scheduler="sync"), xloss.smooth_labels(T[KEEP], 0.1))
    for lazy, a in ((y, Y), (t, T)):
        count = xloss.effective_count(lazy, sample_weight=w, weight=da.from_array(WEIGHT))
        want = xloss.effective_count(a[KEEP], sample_weight=SAMPLE[KEEP], weight=WEIGHT)
        close(count.compute(scheduler="sync"), want)
        given: dict[str, Any] = {"sample_weight": w, "weight": da.from_array(WEIGHT)}
        plain: dict[str, Any] = {"sample_weight": SAMPLE[KEEP], "weight": WEIGHT}
        got = xloss.Evaluation().update(x, lazy, **given).result()
        whole = xloss.Evaluation().update(Z[KEEP], a[KEEP], **plain).result()
        assert got.loss == pytest.approx(whole.loss, rel=1e-14)
        assert (got.rows, got.accuracy) == (whole.rows, whole.accuracy)
        report = xloss.diagnose(x, lazy, **given)
        assert str(report) == str(xloss.diagnose(Z[KEEP], a[KEEP], **plain))


# Two chunks of 5 rows, beside these of something else.
PARTS = [(5, 4), (1, 9), (0, 10), (9, 1), (5, 1)]


def in_parts(a: np.ndarray, first: int, then: int) -> Any:
    """Return two chunks that Dask knows no length of."""
    cut = [a[:first], a[10 - then : 10]] if first + then <= 10 else [a[:first], a[:then]]
    return da.concatenate(
        [da.from_delayed(dask.delayed(p), (np.nan, *a.shape[1:]), dtype=a.dtype) for p in cut]
    )


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("what", ["targets", "soft", "sample_weight", "where", "cotangent"])
@pytest.mark.parametrize("classes", [C, 2])
def test_chunks_that_do_not_fit(classes: int, what: str, parts: tuple[int, int]) -> None:
    """No broadcasting of a chunk of one row, no reading beyond it: the argument is named."""
    arrays = {"targets": Y, "soft": T, "sample_weight": SAMPLE, "where": WHERE, "cotangent": UP}
    odd = in_parts(arrays[what], *parts)
    x = in_parts(Z, 5, 5)
    x = x.rechunk({1: classes})
    features = in_parts(FEATURES, 5, 5)
    right: dict[str, Any] = {"targets": in_parts(T if what == "soft" else Y, 5, 5)}
    right["targets" if what == "soft" else what] = odd
    t = right.pop("targets")
    name = "targets" if what == "soft" else what
    how = {"reduction": "none"} if what == "cotangent" else {"reduction": "sum"}
    f = xloss.value_and_grad
    for loss in ("cross_entropy", "focal_loss", "nll_loss", "log_loss"):
        with pytest.raises(ValueError, match=f"^{name}: in a chunk"):
            f(getattr(xloss, loss))(x, t, **right, **how)[1].compute(scheduler="sync")
    with pytest.raises(ValueError, match=f"^{name}: in a chunk"):
        f(xloss.linear_cross_entropy)(features, da.from_array(MATRIX), t, **right, **how)[
            1
        ].compute(scheduler="sync")
    if what != "cotangent":
        for g in (xloss.Evaluation().update, xloss.diagnose):
            with pytest.raises(ValueError, match=f"^{name}: in a chunk"):
                g(x, t, **right)


def test_a_whole_that_does_not_fit() -> None:
    """Arrays of other numbers of chunks are compared by their lengths."""
    x = filtered(Z, (4, 2))
    count = int(KEEP.sum())
    labels = da.from_array(Y[: count - 1], chunks=3)
    with pytest.raises(ValueError, match=rf"^targets: expected length {count} along axis 0"):
        xloss.cross_entropy(x, labels).compute(scheduler="sync")
    weights = da.from_array(SAMPLE[: count - 1], chunks=3)
    with pytest.raises(ValueError, match=rf"^sample_weight: expected length {count} along axis 0"):
        xloss.cross_entropy(x, filtered(Y, 4), sample_weight=weights).compute(scheduler="sync")
