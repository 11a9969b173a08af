"""linear_cross_entropy's peak memory, as the kernel counts it: never all the logits."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.memory import peak
from libraries import library
from nightly import core
from xloss import linear_cross_entropy, value_and_grad
from xloss.core import linear
from xloss_conformance.timing import Call

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc"
)
ROWS, WIDTH, CLASSES = 3072, 32, 16384  # logits of 192 MiB, gradients of 2.4


def mebibytes(name: str, **options: Any) -> float:
    """Return the peak of value and gradients beyond the inputs."""
    lib, rng = library(name), np.random.default_rng(0)
    x, w = (lib.array(rng.standard_normal((n, WIDTH))) for n in (ROWS, CLASSES))
    y = lib.like(rng.integers(0, CLASSES, ROWS))

    def loss(x: Any, w: Any) -> Any:
        return linear_cross_entropy(x, w, y, **options).sum()

    def run() -> Any:
        if name != "torch":
            return value_and_grad(linear_cross_entropy, (0, 1))(x, w, y, **options)
        leaves = [a.clone().requires_grad_() for a in (x, w)]
        loss(*leaves).backward()
        return [a.grad for a in leaves]

    if name == "jax":
        jax = pytest.importorskip("jax")
        differentiated = jax.jit(jax.grad(loss, (0, 1)))
        return peak(Call(lambda: jax.block_until_ready(differentiated(x, w))), 1) / 2**20
    return peak(Call(run), 1) / 2**20


@pytest.mark.parametrize(
    ("name", "reduction"),
    core(
        product(("numpy", "torch", "jax"), ("mean", "none")),
        lambda name, reduction: (name == "torch") == (reduction == "none"),
    ),
)
def test_the_peak_is_the_gradients_and_less_than_128_mib(name, reduction, monkeypatch):
    """192 MiB of logits are never there: as blocks are chosen, and as they are asked for."""
    pytest.importorskip(name)
    # The room for a block's logits is half of what it is, as are the rows.
    monkeypatch.setattr(linear, "LOGITS_BUDGET_BYTES", linear.LOGITS_BUDGET_BYTES // 2)
    # Blocks of 128 rows: 8 MiB of logits, a few of their size, and what the product packs.
    assert mebibytes(name, reduction=reduction, block_rows=128) < 3 + 96
    assert mebibytes(name, reduction=reduction) < 3 + 128


def test_the_measure_sees_whole_logits():
    """One block of every row does hold them."""
    assert mebibytes("numpy", block_rows=ROWS) > 192
