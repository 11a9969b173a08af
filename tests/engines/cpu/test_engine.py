"""The compiled engine beside core: every path of its kernels, every way that rows lie in memory."""

import numpy as np
import pytest

import xloss

if xloss.engines()["cpu"] is not None:
    pytest.skip(f"no compiled engine here: {xloss.engines()['cpu']}", allow_module_level=True)

from xloss.engines.cpu.call import COLUMN_KERNEL_MAX_CLASSES, MAX_BLOCK_ROWS, THREAD_CHUNK
from xloss.engines.cpu.kernels.lanes import LANES
from xloss.engines.cpu.kernels.rows import L1_CHUNK
from xloss_conformance.libraries.base import laid_out

both = xloss.value_and_grad(xloss.cross_entropy)
EPS = 2.0**-23  # float32's


def on(engine, z, t, **options):
    with xloss.use_engine(engine):
        return both(z, t, **{"reduction": "none", **options})


def exact(z, t, **options):
    """Compute float32 logits by core in float64, whose error is nothing beside float32's."""

    def wide(a):
        return a.astype(np.float64) if getattr(a, "dtype", None) == np.float32 else a

    return on("generic", wide(z), wide(t), **{k: wide(v) for k, v in options.items()})


def assert_close(z, t, scale=1.0, **options):
    """Hold losses and gradient to 4 ulp of the larger of themselves and a term they are made of.

    That is section 4's budget of a float32 sum of such terms.
    """
    results = on("cpu", z, t, **options)
    for got, want in zip(results, exact(z, t, **options), strict=True):
        assert got.dtype == np.float32
        finite = np.isfinite(want)
        np.testing.assert_array_equal(got[~finite], want[~finite])
        off = np.abs(got[finite].astype(np.float64) - want[finite])
        size = np.maximum(np.abs(want[finite]), scale)
        assert (off <= 4 * EPS * size).all(), float(np.max(off / size))
    return results


CLASSES = [
    *(1, 2, 3, 4, 5, 10),
    COLUMN_KERNEL_MAX_CLASSES - 1,
    COLUMN_KERNEL_MAX_CLASSES,
    COLUMN_KERNEL_MAX_CLASSES + 1,
    *(130, 1000),
    L1_CHUNK - 1,
    L1_CHUNK,
    L1_CHUNK + 1,
    2 * L1_CHUNK + 130,
]
# Each way's options, and the size of the terms of its sums; softcap: (4 + c) ulp.
WAYS = {
    "plain": ({}, 1.0),
    "masked": ({"label_smoothing": 0.1}, 1.0),
    "weighted": ({"z_loss": 0.5, "softcap": 5.0}, 30.0),
}


@pytest.mark.parametrize("kind", ["index", "soft"])
@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("way", WAYS)
def test_every_number_of_classes(classes, way, kind):
    rng = np.random.default_rng(classes)
    rows = 7
    z = rng.standard_normal((rows, classes)).astype(np.float32) * 4
    t = rng.integers(0, classes, rows)
    if kind == "soft":
        t = rng.random((rows, classes)).astype(np.float32)
        t /= t.sum(-1, keepdims=True)
    options, scale = WAYS[way]
    if way == "weighted":
        sample_weight = np.array([1, 0, 2, 0.5, 1, 3, 1], np.float32)
        weight, where = rng.random(classes).astype(np.float32), np.arange(rows) != 3
        options = {**options, "weight": weight, "sample_weight": sample_weight, "where": where}
    if way == "masked":
        z[:, rng.random(classes) < 0.4] = -np.inf
        z[2] = -np.inf
        z[3, 0] = np.nan
        z[4, classes // 2] = np.inf
    assert_close(z, t, scale, **options)


def layouts(z):
    """Yield the same numbers as they may lie: name, array, and class axis."""
    for name in ("C", "F", "reversed", "strided"):
        yield name, laid_out(z, name), -1
    yield "class axis first", laid_out(z.T, "C"), 0
    yield "a part of each row", np.concatenate([z, z], axis=-1)[:, : z.shape[1]], -1
    yield "rows apart", np.repeat(z, 2, axis=0)[::2], -1


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("rows", [1, 8, LANES - 1, LANES, LANES + 1, 2 * LANES + 21])
@pytest.mark.parametrize(
    "classes", [3, 8, 21, COLUMN_KERNEL_MAX_CLASSES, COLUMN_KERNEL_MAX_CLASSES + 1, 300]
)
def test_no_layout_changes_a_bit(classes, rows, dtype):
    rng = np.random.default_rng(rows)
    z = (rng.standard_normal((rows, classes)) * 4).astype(dtype)
    t = rng.integers(0, classes, rows)
    want, grad = assert_close(z, t) if dtype == "float32" else on("cpu", z, t)
    for name, x, axis in layouts(z):
        got, g = on("cpu", x, t, axis=axis)
        np.testing.assert_array_equal(got, want, err_msg=name)
        np.testing.assert_array_equal(np.moveaxis(g, axis, -1), grad, err_msg=name)


@pytest.mark.parametrize("shape", [(2, 5, 3, 7), (3, 21, 20, 33), (2, 4, LANES, 2), (1, 200, 9, 5)])
def test_segmentation(shape):
    """Blocks of lanes begin and end inside an image, and run over from one into the next."""
    rng = np.random.default_rng(1)
    z = rng.standard_normal(shape).astype(np.float32) * 4
    t = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    t[0, 0, 1] = -100
    _, grad = assert_close(z, t, axis=1)
    assert grad.flags.c_contiguous == (shape[1] <= COLUMN_KERNEL_MAX_CLASSES)  # as the logits lie


def test_a_shifted_language_model_is_read_in_place():
    """logits[:, :-1] leaves rows that no one step reaches."""
    z = np.random.default_rng(0).standard_normal((3, 6, 500)).astype(np.float32)
    assert_close(z[:, :-1], np.arange(15).reshape(3, 5))


@pytest.mark.parametrize("offset", [0.0, 90.0, -127.9, 129.0, -4000.3, 1e7, -1e30])
@pytest.mark.parametrize("classes", [10, 300])
def test_far_from_zero_and_on_no_grid(offset, classes):
    rng = np.random.default_rng(2)
    # Confident rows, whose losses are the tail alone.
    z = (offset - rng.uniform(0, 1, (64, classes)) * rng.uniform(1, 60, (64, 1))).astype(np.float32)
    t = np.argmax(z, axis=-1)
    z[np.arange(64), t] += np.float32(np.abs(offset) * 1e-6 + 3)
    assert_close(z, t, 0.0)


@pytest.mark.parametrize("classes", [10, 300])
@pytest.mark.parametrize("size", [1e-44, 1e-30, 1e-19, 1.0, 1e30])
def test_an_upstream_of_any_size(classes, size):
    rng = np.random.default_rng(4)
    z = rng.standard_normal((40, classes)).astype(np.float32) * 12
    t = rng.integers(0, classes, 40)
    _, grad = on("cpu", z, t, cotangent=np.full(40, size))
    _, want = exact(z, t, cotangent=np.full(40, size))
    off = np.abs(grad.astype(np.float64) - want)
    assert (off <= 4 * np.maximum(EPS * np.abs(want), 2.0**-149)).all()


@pytest.mark.parametrize("classes", [10, 2 * L1_CHUNK])
@pytest.mark.parametrize("nan", [np.nan, -np.nan])
def test_a_nan_anywhere_is_the_rows_alone(classes, nan):
    """A negative one is no maximum; and a piece of the row may have no other number."""
    for at in {0, 1, classes // 2 - 1, classes - 1}:
        z = np.full((4, classes), -np.inf, np.float32)
        z[:, 1] = 2.0
        z[1, at] = nan
        z[2:] = -np.inf  # no possible class, and a NaN among them
        z[3, classes // 2 :] = 0.0  # none in the first half alone
        z[2:, at] = nan
        value, grad = on("cpu", z, np.array([1, 1, 1, classes // 2]))
        assert value[0] == 0
        assert np.isnan(value[1:]).all()
        assert np.isnan(grad[1:, at]).all()
        assert not grad[0].any()


def test_the_maximum_may_come_last_and_twice():
    n = 3 * L1_CHUNK
    z = np.full((4, n), -3.0, np.float32)
    z[0, -1] = z[1, 0] = 5.0
    z[2, [0, n - 1]] = 5.0  # in two pieces
    z[3, :L1_CHUNK] = -np.inf  # a first piece of masked classes alone
    for t in (np.array([n - 1, 0, 0, n - 1]), np.full((4, n), 1 / n, np.float32)):
        for eps in (0.0, 0.25):
            assert_close(z, t, 1e-3, label_smoothing=eps)


def test_more_rows_than_a_piece():
    """Pieces of a call agree with the call: same bits a row, sums that lose nothing."""
    rng = np.random.default_rng(6)
    for shape in ((2 * MAX_BLOCK_ROWS + 3, 4), (THREAD_CHUNK // 1000 + 9, 1000)):
        z = rng.standard_normal(shape).astype(np.float32)
        t = rng.integers(0, shape[1], shape[0])
        for options in {}, {"sample_weight": rng.random(shape[0]).astype(np.float32)}:
            some = {name: a[-5:] for name, a in options.items()}
            rows, _ = on("cpu", z, t, **options)
            alone, _ = on("cpu", z[-5:], t[-5:], **some)
            np.testing.assert_array_equal(rows[-5:], alone)
            total, _ = on("cpu", z, t, reduction="mean", **options)
            want, _ = exact(z, t, reduction="mean", **options)
            assert abs(total - want) <= 4 * EPS * want


def test_what_it_cannot_take_it_says():
    z, t = np.zeros((2, 3), np.float32), np.array([0, 1])
    said = pytest.raises(xloss.EngineUnavailable, match="only cross_entropy is compiled")
    with xloss.use_engine("cpu"), said:
        xloss.focal_loss(z, t)


def test_one_row_without_a_row_axis_is_read_from_memory_that_is_held():
    z, t = np.array([0.0, 2.0, 1.0]), np.array(-100)
    on_rows = {"sample_weight": np.array(2.0), "where": np.array(True)}
    for label, want in ((t, 0.0), (np.array(1), 2 * xloss.cross_entropy(z, np.array(1)))):
        for _ in range(20):
            got, _ = on("cpu", z, label, validate=False, **on_rows)
            assert got == want
