"""Inputs as they come: never written to, in any layout, with the class axis anywhere, or empty."""

import numpy as np
import pytest

import xloss
from expected import (
    BINARY,
    CLASS,
    LOSSES,
    close,
    expected,
    inputs,
    labels,
    loss,
    shape,
    soft,
    targets,
)
from libraries import across, library

ROWS = np.array([1.0, 0.5, 2.0, 0.0, 3.0, 0.75])
WHERE = np.array([True, True, False, True, True, True])
WEIGHT = np.array([1.0, 2.5, 0.5, 0.0, 3.0])


def everything(name: str, form: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, dict]:
    """Logits, targets, and every array that the loss takes beside them."""
    given = {"sample_weight": ROWS, "where": WHERE, "normalizer": np.array(3.0)}
    if name in CLASS:
        given["weight"] = WEIGHT
    if name == "binary_cross_entropy_with_logits":
        given["pos_weight"] = ROWS[::-1].copy()
    t = targets(name, form)
    if name in CLASS:
        t[1] = -100
    return inputs(name, form), t, given


@across(LOSSES)
def test_inputs_are_never_written_to(lib, name):
    form = shape(name, 6, 5)
    x, labelled, given = everything(name, form)
    smoothing = {} if name in ("kl_div", "sigmoid_focal_loss") else {"label_smoothing": 0.125}
    for t in (labelled, *([soft(form)] if name in CLASS else [])):
        arrays = [lib.like(a) for a in (x, t, *given.values())]
        before = [np.array(lib.read(a)) for a in arrays]
        options = dict(zip(given, arrays[2:], strict=True))
        loss(name)(*arrays[:2], **options, **smoothing)
        xloss.value_and_grad(loss(name))(*arrays[:2], **options)
        for a, b in zip(arrays, before, strict=True):
            np.testing.assert_array_equal(lib.read(a), b)


@pytest.mark.parametrize("name", LOSSES)
def test_read_only_arrays_work(name):
    form = shape(name, 6, 5)
    x, t, given = everything(name, form)
    want = expected(name, x, t, **given)
    for a in (x, t, *given.values()):
        a.setflags(write=False)
    value, gradient = xloss.value_and_grad(loss(name))(x, t, **given)
    close(value, want.value, "float64")
    close(gradient, want.grad, "float64")
    gradient += 1  # the result is the caller's own


def test_a_memory_map_is_read_in_place(tmp_path):
    x, y = inputs("cross_entropy", (6, 5)).astype("f4"), labels(6, 5)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    value, gradient = xloss.value_and_grad(xloss.cross_entropy)(mapped, y)
    want, slope = xloss.value_and_grad(xloss.cross_entropy)(x, y)
    assert value == want
    assert type(gradient) is np.ndarray
    np.testing.assert_array_equal(gradient, slope)


def spread(a: np.ndarray) -> np.ndarray:
    """The same numbers, every second element of a larger array, along every axis."""
    out = np.full([2 * n + 1 for n in a.shape], 99 if a.dtype.kind in "iu" else 0.375, a.dtype)
    view = out[tuple(slice(1, None, 2) for _ in a.shape)]
    view[...] = a
    return view


LAYOUTS = {
    "F order": np.asfortranarray,
    "reversed": lambda a: np.flip(np.flip(a).copy()),
    "spread": spread,
    "byte-swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "unaligned": lambda a: np.frombuffer(b"0" + a.tobytes(), a.dtype, offset=1).reshape(a.shape),
}


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", LOSSES)
def test_no_layout_changes_a_bit(name, layout, kind):
    form = shape(name, 6, 5)
    x, t, given = everything(name, form)
    x = x.astype(kind)
    change = LAYOUTS[layout]
    run = xloss.value_and_grad(loss(name))
    del given["normalizer"]
    odd = {k: change(v) for k, v in given.items()}
    for how in ("none", "mean"):
        want = run(x, t, reduction=how, **given)
        got = run(change(x), change(t), reduction=how, **odd)
        for a, b in zip(got, want, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", LOSSES)
def test_rows_and_classes_repeated_by_stride_0(name):
    form = shape(name, 6, 5)
    for kept in (slice(0, 1), (slice(None), slice(0, 1)))[: len(form)]:
        x, t = inputs(name, form)[kept], targets(name, form)
        wide = np.broadcast_to(x, form)
        t = np.broadcast_to(t[:1], t.shape)
        assert 0 in wide.strides
        run = xloss.value_and_grad(loss(name))
        for a, b in zip(run(wide, t), run(wide.copy(), t.copy()), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["cross_entropy", "log_loss", "kl_div"])
def test_torch_strides_change_nothing(name):
    lib = library("torch")
    x, t = lib.like(inputs(name, (6, 5))), lib.like(targets(name, (6, 5)))
    run = xloss.value_and_grad(loss(name))
    want = run(x, t)
    wide = lib.xp.zeros((12, 15))[::2, ::3].copy_(x)
    for odd in (x.T.contiguous().T, wide):
        assert not odd.is_contiguous()
        for a, b in zip(run(odd, t), want, strict=True):
            np.testing.assert_array_equal(lib.host(a), lib.host(b))
    one = run(x[:1].expand(6, 5), t)
    for a, b in zip(one, run(x[:1].repeat(6, 1), t), strict=True):
        np.testing.assert_array_equal(lib.host(a), lib.host(b))


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
@across((*CLASS, "kl_div"))
def test_the_class_axis_may_be_anywhere(lib, name, axis):
    flat = inputs(name, (6, 5))
    t = soft((6, 5)) if axis == 0 or name == "kl_div" else targets(name, (6, 5))
    want = expected(name, flat, t)
    x = np.moveaxis(flat.reshape(2, 3, 5), -1, axis)
    t = np.moveaxis(t.reshape(2, 3, 5), -1, axis) if t.ndim == 2 else t.reshape(2, 3)
    value, gradient = xloss.value_and_grad(loss(name))(lib.like(x), lib.like(t), axis=axis)
    close(lib.host(value), want.value)
    assert gradient.shape == x.shape
    close(np.moveaxis(lib.host(gradient), axis, -1).reshape(6, 5), want.grad)


def test_axis_may_be_a_numpy_integer():
    x, y = inputs("cross_entropy", (6, 5)), labels(6, 5)
    assert xloss.cross_entropy(x.T, y, axis=np.int64(0)) == xloss.cross_entropy(x, y)


@pytest.mark.parametrize("rows", [(0,), (2, 0)], ids=str)
@across(LOSSES)
def test_no_rows_are_a_sum_and_a_mean_of_zero(lib, name, rows):
    form = rows if name in BINARY else (*rows, 5)
    x = lib.array(np.zeros(form))
    t = lib.array(np.zeros(rows), "int32") if name in CLASS else lib.array(np.zeros(form))
    for how in ("mean", "sum"):
        value, gradient = xloss.value_and_grad(loss(name))(x, t, reduction=how)
        assert lib.host(value) == 0
        assert lib.host(gradient).shape == form
    assert lib.host(loss(name)(x, t, reduction="none")).shape == rows


@across(CLASS)
def test_one_class_is_certain(lib, name):
    x = np.zeros((3, 1)) if name != "log_loss" else np.ones((3, 1))
    value, gradient = xloss.value_and_grad(loss(name))(
        lib.array(x), lib.array(np.zeros(3), "int32")
    )
    assert lib.host(value) == 0
    close(lib.host(gradient), expected(name, x, np.zeros(3, int)).grad)


def test_more_than_2_to_the_31_elements():
    """Rows repeated by stride 0: nothing of that size is stored."""
    rows, classes = 2**16 + 1, 2**15
    x = np.broadcast_to(np.linspace(-1, 1, classes, dtype=np.float32), (rows, classes))
    y = np.zeros(rows, np.int64)
    y[-1] = classes - 1
    assert x.size > 2**31
    assert xloss.nll_loss(x, y, reduction="sum") == rows - 2
    y[-1] = classes
    with pytest.raises(IndexError, match=rf"position \({rows - 1},\)"):
        xloss.nll_loss(x, y)
