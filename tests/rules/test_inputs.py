"""Inputs as they come: in any layout, mapped from a file, of more than 2^31 elements."""

import numpy as np
import pytest

import xloss
from expected import (
    CLASS,
    LOSSES,
    inputs,
    labels,
    loss,
    shape,
    targets,
)

ROWS = np.array([1.0, 0.5, 2.0, 0.0, 3.0, 0.75])
WEIGHT = np.array([1.0, 2.5, 0.5, 0.0, 3.0])


def everything(name: str, form: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, dict]:
    """Logits, targets, and every array that the loss takes beside them."""
    given = {"sample_weight": ROWS, "where": ROWS != 2}
    if name in CLASS:
        given["weight"] = WEIGHT
    if name == "binary_cross_entropy_with_logits":
        given["pos_weight"] = ROWS[::-1].copy()
    t = targets(name, form)
    if name in CLASS:
        t[1] = -100
    return inputs(name, form), t, given


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
    odd = {k: change(v) for k, v in given.items()}
    for how in ("none", "mean"):
        want = run(x, t, reduction=how, **given)
        got = run(change(x), change(t), reduction=how, **odd)
        for a, b in zip(got, want, strict=True):
            np.testing.assert_array_equal(a, b)


def test_axis_may_be_a_numpy_integer():
    x, y = inputs("cross_entropy", (6, 5)), labels(6, 5)
    assert xloss.cross_entropy(x.T, y, axis=np.int64(0)) == xloss.cross_entropy(x, y)


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
