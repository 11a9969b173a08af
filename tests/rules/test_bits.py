"""A row's loss is bit-equal whatever the batch around it, its order, the thread and the run."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest

import xloss
from expected import BINARY, CLASS, LOSSES, loss
from fresh import said
from libraries import library

# Around the widths at which sums change their order, and beyond one block of rows.
CLASSES = (1, 2, 3, 7, 8, 9, 10, 16, 17, 31, 64, 100, 127, 128, 129, 1000, 4096, 70_001)
OPTIONS = {
    "cross_entropy": {"label_smoothing": 0.1, "z_loss": 1e-4, "softcap": 30.0},
    **{name: {"label_smoothing": 0.1} for name in ("focal_loss", "nll_loss", "log_loss")},
}


def batch(name: str, rows: int, classes: int, seed: int = 0):
    """Random logits off any grid, so that sums do round."""
    rng = np.random.default_rng([seed, classes])
    form = (rows,) if name in BINARY else (rows, classes)
    x = rng.normal(0, 4, form)
    if name in ("log_loss", "binary_cross_entropy"):
        x = 1 / (1 + np.exp(-x))
    t = rng.uniform(0, 1, form)
    return x.astype(np.float32), (rng.integers(0, classes, rows) if name in CLASS else t)


def rows_of(name, x, t, **options):
    """Row losses, and the gradient of their sum, on the host."""
    lib = library("torch" if type(x).__module__ == "torch" else "numpy")
    rows, gradient = xloss.value_and_grad(loss(name))(x, t, reduction="none", **options)
    return lib.host(rows), lib.host(gradient)


def same(a, b):
    for left, right in zip(a, b, strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize(
    ("name", "dtype", "classes"),
    [
        *(("cross_entropy", "float32", n) for n in CLASSES),
        *product(LOSSES, ("float16", "float32", "float64"), (130,)),
    ],
)
def test_splitting_a_batch_changes_no_bit(name, dtype, classes):
    rows = max(3, min(1500, 200_000 // classes))
    x, t = batch(name, rows, classes)
    x = x.astype(dtype)
    for options in {}, OPTIONS.get(name, {}):
        whole = rows_of(name, x, t, **options)
        for size in (1, 7, 503, 504, 1024):
            cuts = range(0, rows, size) if size > 1 else range(0, min(rows, 20))
            parts = [rows_of(name, x[i : i + size], t[i : i + size], **options) for i in cuts]
            joined = [np.concatenate(p) for p in zip(*parts, strict=True)]
            same(joined, [a[: len(joined[0])] for a in whole])
        if name in CLASS:  # a row without an axis of rows
            same(rows_of(name, x[0], t[0], **options), [a[0] for a in whole])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LOSSES)
def test_the_order_of_memory_changes_no_bit(name, dtype):
    x, t = batch(name, 1200, 130)
    x = x.astype(dtype)
    whole = rows_of(name, x, t)
    same(rows_of(name, np.asfortranarray(x), np.asfortranarray(t)), whole)
    if name not in BINARY:
        moved = [np.ascontiguousarray(a.T) for a in (x, t)]
        rows, gradient = rows_of(name, *moved, axis=0)
        same((rows, gradient.T), whole)


def test_a_second_run_changes_no_bit():
    script = f"""
import sys
sys.path.append({str(Path(__file__).parent)!r})
import test_bits as t
rows, gradient = t.rows_of("cross_entropy", *t.batch("cross_entropy", 700, 130))
print(rows.tobytes().hex(), gradient[::50].tobytes().hex())
"""
    rows, gradient = rows_of("cross_entropy", *batch("cross_entropy", 700, 130))
    assert said(script).split() == [rows.tobytes().hex(), gradient[::50].tobytes().hex()]


@pytest.mark.parametrize("name", LOSSES)
def test_torch_on_the_host_gives_numpy_s_bits(name):
    torch = pytest.importorskip("torch")
    for classes, dtype in ((10, "float32"), (130, "float64"), (5000, "float32")):
        x, t = batch(name, 60, classes)
        x = x.astype(dtype)
        for options in {}, OPTIONS.get(name, {}):
            mine = rows_of(name, x, t, **options)
            same(rows_of(name, torch.tensor(x), torch.tensor(t), **options), mine)
