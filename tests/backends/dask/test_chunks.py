"""Dask: chunks of any kind: none of a class, none of a row, one row alone, other dtypes, other
things than they are said to be; and errors that name a position in the array."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import numpy as np
import pytest

import xloss

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

RNG = np.random.default_rng(0)
Z = RNG.standard_normal((10, 5))
Y = np.arange(10) % 5
T = RNG.random((10, 5))
SAMPLE, WEIGHT = RNG.random(10), RNG.random(5)


def of_chunks(parts: list[Any], chunks: Any, dtype: Any) -> Any:
    """Return a Dask array whose chunks are these, whatever they are."""
    name = f"chunks-{next(COUNT)}"
    blocks = itertools.product(*(range(len(c)) for c in chunks))
    graph = {(name, *block): part for block, part in zip(blocks, parts, strict=True)}
    return da.Array(graph, name, chunks, dtype=dtype)


COUNT = itertools.count()


def in_class_chunks(a: np.ndarray, widths: tuple[int, ...]) -> Any:
    """Cut rows in two and classes as told."""
    ends = np.cumsum((0, *widths))
    parts = [a[r : r + 5, i:j] for r in (0, 5) for i, j in itertools.pairwise(ends)]
    return of_chunks(parts, ((5, 5), widths), a.dtype)


close = partial(np.testing.assert_allclose, rtol=1e-13, atol=1e-15, strict=True)


OPS = ("softmax", "log_softmax", "logsumexp", "entropy")


def flat(made: Any) -> list[Any]:
    return [b for a in made for b in flat(a)] if isinstance(made, tuple) else [made]


def lazy(a: np.ndarray, chunks: Any = 3) -> Any:
    """Return an array, of however many axes, as Dask's."""
    return da.from_array(np.asarray(a), chunks=chunks)


def lazily(options: dict[str, Any]) -> dict[str, Any]:
    return {k: lazy(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}


def computed(made: Any) -> Any:
    return dask.compute(made, scheduler="sync")[0]


def held(f: Any, lazy: tuple[Any, ...], plain: tuple[Any, ...], **options: Any) -> None:
    """Hold what comes of Dask arrays to what NumPy gives."""
    got, want = computed(f(*lazy, **lazily(options))), f(*plain, **options)
    for a, b in zip(flat(got), flat(want), strict=True):
        close(a, b)


@pytest.mark.parametrize("widths", [(0, 2, 3), (2, 0, 3), (5, 0)])
def test_class_chunks_of_length_0(widths: tuple[int, ...]) -> None:
    """The statistics of no class are none; slicing and concatenating leave such chunks."""
    y = da.from_array(Y, chunks=5)
    x, t = in_class_chunks(Z, widths), in_class_chunks(T, widths)
    held(xloss.value_and_grad(xloss.cross_entropy), (x, y), (Z, Y))
    held(xloss.value_and_grad(xloss.focal_loss), (x, t), (Z, T))
    held(xloss.value_and_grad(xloss.binary_cross_entropy_with_logits), (x, t), (Z, T))
    held(xloss.softmax, (x,), (Z,))
    # The weight of a linear layer, whose first axis is the classes.
    ends = itertools.pairwise(np.cumsum((0, *widths)))
    matrix = of_chunks([T.T[i:j, :3] for i, j in ends], (widths, (3,)), T.dtype)
    features = da.from_array(Z[:, :3], chunks=(4, 2))
    linear = xloss.value_and_grad(xloss.linear_cross_entropy, (0, 1))
    held(linear, (features, matrix, y), (Z[:, :3], T.T[:, :3], Y))


def test_no_row_at_all() -> None:
    """Two chunks of no rows: the mean of nothing is 0."""
    x = of_chunks([Z[:0], Z[:0]], ((np.nan, np.nan), (5,)), Z.dtype)
    y = of_chunks([Y[:0], Y[:0]], ((np.nan, np.nan),), Y.dtype)
    value, grad = computed(xloss.value_and_grad(xloss.cross_entropy)(x, y))
    assert (float(value), grad.shape) == (0.0, (0, 5))
    assert xloss.Evaluation().update(x, y).result().rows == 0


@pytest.mark.parametrize("classes", [5, 2])
def test_logits_of_one_row_alone(classes: int) -> None:
    """1-D logits take a 0-d label; weights and a cotangent have no axis either."""
    x, y, w = da.from_array(Z[0], chunks=classes), np.asarray(Y[0]), np.asarray(0.3)
    options: list[dict[str, Any]] = [
        {"sample_weight": w, "where": np.asarray(True)},
        {"weight": WEIGHT},
        {"reduction": "none", "cotangent": w},
    ]
    for f, given in itertools.product((xloss.cross_entropy, xloss.focal_loss), options):
        for t in (y, T[0]):
            held(xloss.value_and_grad(f), (x, lazy(t)), (Z[0], t), **given)
    for name in OPS:
        held(getattr(xloss, name), (x,), (Z[0],))
    linear = xloss.value_and_grad(xloss.linear_cross_entropy, (0, 1, "bias"))
    held(linear, (x, lazy(T[:, :5]), lazy(y)), (Z[0], T[:, :5], y), bias=SAMPLE, sample_weight=w)
    record = xloss.Evaluation().update(x, lazy(y), where=lazy(np.asarray(True)))
    assert record.result() == xloss.Evaluation().update(Z[0], y).result()


def test_a_cotangent_in_other_chunks() -> None:
    """Each row meets its own: chunks of the same number and other lengths were paired."""
    x, y = da.from_array(Z, chunks=(3, 5)), da.from_array(Y, chunks=10)
    up = da.from_array(SAMPLE, chunks=((4, 1, 1, 4),))
    f = xloss.value_and_grad(xloss.cross_entropy)
    got = computed(f(x, y, reduction="none", cotangent=up)[1])
    p = np.exp(Z) / np.exp(Z).sum(1, keepdims=True)
    p[np.arange(10), Y] -= 1.0
    np.testing.assert_allclose(got, SAMPLE[:, None] * p, rtol=1e-12, atol=1e-15)


LABELS = np.where(np.arange(10) == 7, 9, Y)


@pytest.mark.parametrize("classes", [5, 2])
def test_validate_names_the_position_in_the_array(classes: int) -> None:
    """Label 9 at row 7, in chunks of 4, is not at row 3."""
    x, y = da.from_array(Z, chunks=(4, classes)), da.from_array(Y, chunks=4)
    bad, matrix = da.from_array(LABELS, chunks=4), da.from_array(T[:5], chunks=3)
    for made in (
        xloss.cross_entropy(x, bad, validate=True),
        xloss.value_and_grad(xloss.cross_entropy)(x, bad, validate=True, reduction="sum")[1],
        xloss.linear_cross_entropy(x, matrix, bad, validate=True),
    ):
        with pytest.raises(IndexError, match=r"^targets: label 9 at position \(7,\) "):
            computed(made)
    t, w, c = T.copy(), SAMPLE.copy(), WEIGHT.copy()
    t[7, 3] = w[8] = c[4] = -1.0
    for target, name, a, where in (
        (lazy(t), "where", np.ones(10, bool), r"targets: negative at position \(7, 3\)"),
        (y, "sample_weight", w, r"sample_weight: negative at position \(8,\)"),
        (y, "weight", c, r"weight: negative at position \(4,\)"),
    ):
        with pytest.raises(ValueError, match=f"^{where}$"):
            computed(xloss.cross_entropy(x, target, **{name: lazy(a)}, validate=True))
    made = xloss.linear_cross_entropy(x, matrix, y, class_weight=lazy(c), validate=True)
    with pytest.raises(ValueError, match=r"^class_weight: negative at position \(4,\)$"):
        computed(made)


def test_a_position_counts_the_class_axis_where_it_is() -> None:
    """Of soft targets whose classes are not the last axis."""
    t = np.ones((4, 5, 3))
    t[3, 1, 2] = -1.0
    lazy_x, lazy_t = da.zeros((4, 5, 3), chunks=(2, 2, 2)), da.from_array(t, chunks=(2, 5, 3))
    for x, targets in ((np.zeros((4, 5, 3)), t), (lazy_x, lazy_t)):
        with pytest.raises(ValueError, match=r"^targets: negative at position \(3, 1, 2\)$"):
            computed(xloss.cross_entropy(x, targets, axis=1, validate=True))


def test_a_position_in_a_chunk_of_unknown_length() -> None:
    """Where the chunk begins nobody knows, so the chunk is named."""
    keep = da.from_array(np.arange(10) != 4, chunks=5)
    x, y = da.from_array(Z, chunks=(5, 2))[keep], da.from_array(LABELS, chunks=5)[keep]
    with pytest.raises(IndexError, match=r"^targets: label 9 at position \(2,\) of chunk \(1,\) "):
        computed(xloss.cross_entropy(x, y, validate=True))


HALVES, WHOLE = ((5, 5),), ((5, 5), (5,))
INTEGERS = [(Y[:5] * 1.0, "one of int8"), (Y[:5] > 1, "one of int8")]
OBJECTS = [(of, "an array of numpy") for of in (Y[:5].tolist(), np.ma.masked_array(Y[:5]), None)]


@pytest.mark.parametrize(("labels", "expected"), [*INTEGERS, *OBJECTS], ids=str)
def test_labels_that_are_not_what_the_array_says(labels: Any, expected: str) -> None:
    """Dask believes the dtype that it is told, a kernel must not."""
    y = of_chunks([labels] * 2, HALVES, np.int64)
    for classes in (5, 2):
        with pytest.raises(TypeError, match=f"^targets: in a chunk, expected {expected}"):
            computed(xloss.cross_entropy(da.from_array(Z, chunks=(5, classes)), y))


@pytest.mark.parametrize(
    ("parts", "chunks", "error"),
    [
        ([Z[:5, :2], Z[:5, 2:4], Z[5:, :2], Z[5:, 2:]], ((5, 5), (2, 3)), r"shape \(5, 3\)"),
        ([Z[:5, :4]] * 2, WHOLE, r"shape \(5, 5\)"),
        ([Z[:5].tolist()] * 2, WHOLE, ""),
        ([Z[:5].astype(np.int64)] * 2, WHOLE, ""),
    ],
    ids=["few", "fewer", "lists", "integers"],
)
def test_logits_that_are_not_what_the_array_says(parts: Any, chunks: Any, error: str) -> None:
    x = of_chunks(parts, chunks, "f8")
    kind = ValueError if error else TypeError
    with pytest.raises(kind, match=rf"^logits: in a chunk, expected {error}"):
        computed(xloss.cross_entropy(x, da.from_array(Y, chunks=5)))


HUGE = np.where(np.arange(5) == 0, np.where(np.arange(10) < 5, 3e38, -3e38)[:, None], 0)


@pytest.mark.parametrize("classes", [5, 2])
@pytest.mark.parametrize(
    ("x", "y", "options"),
    [
        (Z, T, {"normalizer": 0.0}),
        (HUGE.astype(np.float32), Y % 4 + 1, {"reduction": "sum"}),
        (HUGE * (1.7e308 / 3e38), Y % 4 + 1, {"reduction": "sum"}),
    ],
    ids=["a normalizer of 0", "a cast", "a sum"],
)
def test_what_overflows_warns_of_nothing(
    x: np.ndarray, y: np.ndarray, options: dict[str, Any], classes: int
) -> None:
    """It is infinite, without NumPy's warning, which a test takes for an error."""
    f = xloss.value_and_grad(xloss.cross_entropy)
    assert np.isinf(f(x, y, **options)[0])
    held(f, (lazy(x, (4, classes)), lazy(y)), (x, y), **options)
    if "normalizer" in options:
        linear = xloss.value_and_grad(xloss.linear_cross_entropy, (0, 1, "bias"))
        arrays = T[:, :3], T[:5, 2:], y
        held(linear, tuple(map(lazy, arrays)), arrays, bias=WEIGHT, **options)
