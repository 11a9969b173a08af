"""The generic engine under XLA: no array of the logits' size before a sum, and its values right.

optax' loss holds none either; a comparison or a selection among what is added makes XLA's compiler
for processors write one. On a GPU every pass over the logits takes its time: JAX lowers for one on
any machine, and what the program comes to is seen where the host runs it.
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


def generic(function: Any) -> Any:
    def call(*arguments: Any) -> Any:
        with xloss.use_engine("generic"):
            return function(*arguments)

    return call


@pytest.mark.parametrize("shape", [(2048, 1000), (256, 32_000)])
def test_no_array_of_the_logits_size_is_held(shape):
    x, y = jax.ShapeDtypeStruct(shape, np.float32), jax.ShapeDtypeStruct(shape[:1], np.int32)
    size = 4 * shape[0] * shape[1]
    loss = xloss.cross_entropy
    for function in (loss, jax.value_and_grad(loss), value_and_grad(loss)):
        made = jax.jit(generic(function)).lower(x, y).compile().memory_analysis()
        # Of pieces of rows the maxima and sums, and one piece a row.
        assert made.temp_size_in_bytes < size // 8


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


@pytest.mark.parametrize(
    ("function", "dtype"),
    [
        (xloss.cross_entropy, np.float32),
        (xloss.cross_entropy, jnp.bfloat16),
        (jax.value_and_grad(xloss.cross_entropy), np.float32),
        (value_and_grad(xloss.cross_entropy), np.float32),
    ],
)
def test_two_passes_for_the_loss_and_one_for_the_gradient(function, dtype):
    """One for the maxima, one for both sums, of one exponential: XLA fuses sums of one array.

    What two functions of a program compute alike it merges: it is the same in each.
    """
    for counts in over_the_logits(function, dtype):
        assert counts["reduce"] <= 3
        assert counts["exponential"] <= 1
        assert counts["sign"] == 0


@pytest.fixture
def processor(request, monkeypatch):
    """Have on the host the program for it, and what a program for a GPU holds."""
    if request.param == "host":
        yield
        return
    monkeypatch.setattr(
        JaxContext, "by_processor", lambda cx, host, hosts, gpu, *given: gpu(*given)
    )
    jax.clear_caches()
    yield
    jax.clear_caches()


# One loop over few classes, a row as a whole, rows in pieces of different numbers of classes.
@pytest.mark.parametrize(
    ("processor", "classes"),
    [*(("host", n) for n in (3, 60, 101, 1000, 1009, 32_000)), ("gpu", 3)],
    indirect=["processor"],
)
@pytest.mark.usefixtures("processor")
def test_extreme_rows(classes):
    """Ties, masked and infinite classes, the largest number beside infinity, NaN, subnormals."""
    inf, nan, most = np.inf, np.nan, float(np.finfo(np.float32).max)
    rows = {
        (1.0, 1.0, 1.0): np.log(3),
        (0.0, -20.0, -20.0): np.log1p(2 * np.exp(-20.0)),
        (0.0, -inf, -inf): 0.0,
        (-inf, -inf, -inf): nan,
        (inf, 0.0, most): 0.0,
        (inf, inf, most): np.log(2),
        (inf, -inf, -most): 0.0,
        (0.0, inf, most): inf,
        (most, most, 0.0): np.log(2),
        (most, -most, -inf): 0.0,
        (-most, -most, -most): np.log(3),
        (0.0, nan, 0.0): nan,
        (nan, inf, -inf): nan,
        (0.0, -inf, -87.0): np.log1p(np.exp(-87.0)),
        (0.0, -1e-8, -30.0): np.log1p(np.exp(-1e-8) + np.exp(-30.0)),
    }
    x = np.full((len(rows), classes), -inf, np.float32)  # masked classes change no sum
    x[:, [0, classes // 2, classes - 1]] = list(rows)
    call = generic(lambda x: xloss.cross_entropy(x, jnp.zeros(len(x), int), reduction="none"))
    mapped = jax.vmap(lambda row: call(row[None])[0])  # the rare path of infinite logits, for all
    for function in (call, jax.jit(call), jax.jit(mapped)):
        got = np.asarray(function(jnp.asarray(x)), np.float64)
        want = np.array(list(rows.values()))
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
        np.testing.assert_allclose(got, want, rtol=4 * 2.0**-23)


@pytest.mark.parametrize("count", [1, 1000, 65_537])
def test_a_mean_s_sum_is_exact(count):
    """In float64 on the host, though JAX's arrays have no 64 bits."""
    x = np.zeros((count, 2), np.float32)
    x[:, 1] = np.linspace(-12, 3, count, dtype=np.float32)
    rows = np.asarray(
        xloss.cross_entropy(jnp.asarray(x), jnp.zeros(count, int), reduction="none"), np.float64
    )
    total = jax.jit(lambda x: xloss.cross_entropy(x, jnp.zeros(count, int), reduction="sum"))(x)
    assert total.dtype == np.float32
    assert np.asarray(total) == np.float32(rows.sum())
    text = jax.jit(lambda x: xloss.cross_entropy(x, jnp.zeros(count, int))).lower(x).as_text()
    assert text.count("stablehlo.concatenate") == 0
    mapped = jax.vmap(lambda x: xloss.cross_entropy(x, jnp.zeros(count, int)))(np.stack([x, x]))
    np.testing.assert_array_equal(mapped[0], mapped[1])
    np.testing.assert_allclose(mapped[0], rows.mean(), rtol=3e-7)
