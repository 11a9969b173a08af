"""Peak memory beyond the inputs: 5% of the logits for the value, the gradient and 5% with it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import xloss

# Large enough that a block's temporaries, some 8 MB whatever the batch, are the 5%.
SHAPES = [(4096, 16384), (524288, 128)]


def peak(function: Callable[..., Any], *arrays: np.ndarray) -> int:
    """Return the most bytes that NumPy and Python held at once beyond what was there."""
    function(*(a[:64] for a in arrays))  # kernels compiled, threads started
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        result = function(*arrays)
        most = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert result is not None
    return most


def data(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal(shape, dtype=np.float32), rng.integers(0, shape[1], shape[0])


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        (SHAPES[0], {"ignore_index": 3}),
        (SHAPES[0], {"label_smoothing": 0.1, "z_loss": 0.1, "softcap": 9.0}),
        (SHAPES[1], {}),
    ],
    ids=str,
)
def test_cross_entropy(shape: tuple[int, int], options: dict[str, Any]) -> None:
    """On labels, in every row count."""
    z, y = data(shape)
    assert peak(lambda z, y: xloss.cross_entropy(z, y, **options), z, y) < 0.05 * z.nbytes
    both = peak(lambda z, y: xloss.value_and_grad(xloss.cross_entropy)(z, y, **options), z, y)
    assert z.nbytes <= both < 1.05 * z.nbytes


def test_other_losses() -> None:
    """Soft targets, a class axis in front, the other kinds, half precision."""
    z, y = data((8192, 8192))
    soft = np.broadcast_to(np.float32(1 / 8192), z.shape)
    half, limit = z.astype(np.float16), 0.05 * z.nbytes
    probs = np.asarray(xloss.softmax(z))
    assert peak(xloss.cross_entropy, z, soft) < limit
    assert peak(lambda z, y: xloss.cross_entropy(z.T, y, axis=0), z, y) < limit
    assert peak(lambda z, y: xloss.focal_loss(z, y, label_smoothing=0.1), z, y) < limit
    assert peak(xloss.log_loss, probs, y) < limit
    assert peak(xloss.kl_div, z, soft) < limit
    assert peak(xloss.binary_cross_entropy_with_logits, z, soft) < limit
    assert peak(xloss.cross_entropy, half, y) < 0.05 * half.nbytes
    assert peak(xloss.logsumexp, z) < limit


@pytest.mark.parametrize("engine", [n for n in ("generic", "cpu") if xloss.engines()[n] is None])
@pytest.mark.parametrize("rest", ["zero", "uniform"])
def test_no_row_of_all_classes_is_made(engine: Any, rest: Any) -> None:
    """Of targets of a few classes, which written out would be as large as the logits."""
    z, _ = data((64, 131072))
    k = np.random.default_rng(7).permutation(1000)[:16] + np.zeros((64, 1), int)
    p = np.full(k.shape, 1 / 32, dtype=np.float32)

    def both(z: np.ndarray, k: np.ndarray, p: np.ndarray) -> Any:
        return xloss.value_and_grad(xloss.cross_entropy)(z, xloss.TopKTargets(k, p, rest))

    with xloss.use_engine(engine):
        # Core's temporaries are those of a block of 2^17 numbers, which here is one row.
        assert peak(both, z, k, p) < 1.33 * z.nbytes  # with the gradient


def test_the_obvious_version_is_seen() -> None:
    """A whole-array temporary fails the same measure."""
    z, y = data((2048, 1024))

    def obvious(z: np.ndarray, y: np.ndarray) -> Any:
        e = np.exp(z - z.max(-1, keepdims=True))
        return -np.log(e / e.sum(-1, keepdims=True))[np.arange(len(y)), y].mean()

    assert peak(obvious, z, y) > 1.5 * z.nbytes
