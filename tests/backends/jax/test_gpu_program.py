"""The generic engine's program for a GPU, where every pass over the logits takes its time.

JAX lowers for a GPU on any machine; what the program comes to is seen where the host runs it.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np
import pytest

import xloss
from xloss import value_and_grad
from xloss._arrays.ops import JaxContext

jax = pytest.importorskip("jax")
from jax.extend.mlir import passmanager  # noqa: E402

jnp = jax.numpy

PASSES = "builtin.module(canonicalize,cse,symbol-dce)"
ROWS, CLASSES = 1024, 32_768


def over_the_logits(function: Any, dtype: Any) -> list[Counter[str]]:
    """Count a GPU program's operations on arrays of the logits' size, in each of its functions."""
    x = jax.ShapeDtypeStruct((ROWS, CLASSES), dtype)
    y = jax.ShapeDtypeStruct((ROWS,), np.int32)
    lowered = jax.jit(function).trace(x, y).lower(lowering_platforms=("cuda",))
    program = lowered.compiler_ir("stablehlo")
    with program.context:  # XLA too drops what is unused, and computes once what stands there twice
        passmanager.PassManager.parse(PASSES).run(program.operation)
    text = str(program)
    assert "optimization_barrier" not in text  # beyond which XLA merges nothing
    found = []
    for part in text.split("func.func")[1:]:
        lines = [line for line in part.splitlines() if f"{ROWS}x{CLASSES}x" in line]
        names = (re.search(r'= "?stablehlo\.(\w+)', line) for line in lines)
        found.append(Counter(name[1] for name in names if name))
    return found


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
def test_two_passes_for_the_loss(dtype):
    """One for the maxima, one for both sums, of one exponential: XLA fuses sums of one array."""
    counts = sum(over_the_logits(xloss.cross_entropy, dtype), Counter())
    assert counts["reduce"] == 3
    assert counts["exponential"] == 1
    assert counts["sign"] == 0


@pytest.mark.parametrize("made", [jax.value_and_grad, value_and_grad])
def test_one_pass_more_for_the_gradient(made):
    """XLA merges what two functions compute alike: it is the same in each."""
    for counts in over_the_logits(made(xloss.cross_entropy), np.float32):
        assert counts["reduce"] <= 3
        assert counts["exponential"] <= 1
        assert counts["sign"] == 0


@pytest.fixture
def _as_on_a_gpu(monkeypatch):
    """Choose on the host what a program for a GPU holds."""
    monkeypatch.setattr(
        JaxContext, "by_processor", lambda cx, host, hosts, gpu, *given: gpu(*given)
    )
    jax.clear_caches()
    yield
    jax.clear_caches()


@pytest.mark.usefixtures("_as_on_a_gpu")
def test_extreme_rows():
    """Ties, masked and infinite classes, NaN, and a tail far below 1."""
    inf, nan, most = np.inf, np.nan, float(np.finfo(np.float32).max)
    rows = {
        (1.0, 1.0, 1.0): np.log(3),
        (0.0, -20.0, -20.0): np.log1p(2 * np.exp(-20.0)),
        (0.0, -inf, -inf): 0.0,
        (-inf, -inf, -inf): nan,
        (inf, inf, most): np.log(2),
        (0.0, inf, most): inf,
        (most, -most, -inf): 0.0,
        (nan, inf, -inf): nan,
        (0.0, -inf, -87.0): np.log1p(np.exp(-87.0)),
    }
    x = jnp.asarray(list(rows), np.float32)
    with xloss.use_engine("generic"):
        got = xloss.cross_entropy(x, jnp.zeros(len(x), int), reduction="none")
    np.testing.assert_allclose(np.asarray(got, np.float64), list(rows.values()), rtol=4 * 2.0**-23)
