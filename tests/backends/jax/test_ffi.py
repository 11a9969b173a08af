"""JAX on the host by the compiled engine: the bits of NumPy's rows and gradients, in every option.

NumPy's own are held to the oracle elsewhere; here both take the same kernels, so that nothing but
equality will do.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest

import xloss
from ffi_cases import ROWS, SAMPLE, drawn, same, soft
from xloss import value_and_grad

jax = pytest.importorskip("jax")
jnp = jax.numpy
ml_dtypes = pytest.importorskip("ml_dtypes")

REASON = xloss.engines()["cpu"]
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"no CPU engine: {REASON}")

DTYPES = {
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float64": np.float64,
}


def held(x: np.ndarray, t: np.ndarray, up: Any = None, **options: Any) -> None:
    """Compare rows, and rows with gradients in one call, jitted, with NumPy's."""
    arrays = {k: v for k, v in options.items() if isinstance(v, np.ndarray)}
    rest = {k: v for k, v in options.items() if k not in arrays}
    up = np.linspace(-1, 2, ROWS, dtype=np.float32) if up is None else up

    @jax.jit
    def both(x: Any, t: Any, up: Any, arrays: Any) -> Any:
        given = {**arrays, **rest, "reduction": "none"}
        with xloss.use_engine("cpu"):
            rows = xloss.cross_entropy(x, t, **given)
            return rows, value_and_grad(xloss.cross_entropy)(x, t, cotangent=up, **given)

    rows, (again, gradient) = both(x, t, up, arrays)
    kept = {**options, "reduction": "none", "validate": False}
    with xloss.use_engine("cpu"):
        want, slope = value_and_grad(xloss.cross_entropy)(x, t, cotangent=up, **kept)
    same(rows, want)
    same(again, want)
    same(gradient, slope)


@pytest.mark.parametrize("classes", [5, 130])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype, classes):
    with jax.enable_x64(dtype == "float64"):
        held(*drawn(classes, DTYPES[dtype]))
        held(*drawn(classes, DTYPES[dtype]), label_smoothing=0.1, z_loss=0.01, softcap=5.0)


@pytest.mark.parametrize("classes", [5, 130])
def test_every_option(classes):
    (x, y), t = drawn(classes), soft(classes)
    weight = np.linspace(0, 2, classes, dtype=np.float32)
    given = {"weight": weight, "sample_weight": SAMPLE, "z_loss": 0.5, "softcap": 2.0}
    held(x, y, ignore_index=None)
    held(x, y, ignore_index=3, sample_weight=SAMPLE)
    held(x, y, weight=weight)
    held(x, y, label_smoothing=0.5, where=np.arange(ROWS) % 4 != 1, **given)
    held(x, t)
    held(x, t, label_smoothing=0.25, **given)


def test_subnormal_numbers_stay():
    """XLA's threads take them for 0; the kernels do not, as in Python's threads."""
    x = np.array([[0, -100.0], [0, -87.5], [2e-39, 1e-39]], np.float32)
    y = np.array([0, 0, 1], np.int32)
    assert 0 < xloss.cross_entropy(x, y, reduction="none")[0] < np.finfo(np.float32).tiny
    held(x, y, np.ones(3, np.float32))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(30_000, 12), (700, 1500)])
def test_large_calls_on_several_threads(shape, dtype):
    """Pieces go to XLA's threads; every row has its bits, whoever computed it.

    Python waits for XLA, XLA's threads for nobody: no call holds another up for ever.
    """
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape, np.float32).astype(DTYPES[dtype])
    y = rng.integers(0, shape[1], shape[0]).astype(np.int32)
    y[::7] = -100
    numpy = partial(value_and_grad(xloss.cross_entropy), reduction="none")
    call, want = jax.jit(numpy), numpy(x, y)
    with ThreadPoolExecutor(7) as many:
        beside = many.submit(numpy, x, y)
        calls = [many.submit(call, x, y) for _ in range(18)]
        for made in (beside, *calls):
            for got, expected in zip(made.result(120), want, strict=True):
                same(got, expected)


@pytest.mark.parametrize("classes", [4, 512])
def test_without_jit_it_is_called_in_a_program_of_its_own(classes):
    """Rows of equal logits: log C each; the slope of their mean is 1/(2C), less 1/2 at labels."""
    x, labels = jnp.zeros((2, classes)), jnp.asarray([0, 1])
    slope = np.full((2, classes), 0.5 / classes, np.float32)
    slope[[0, 1], [0, 1]] -= 0.5
    with jax.disable_jit():
        got = [xloss.cross_entropy(x, labels, reduction=how) for how in ("none", "mean")]
        gradients = [
            jax.grad(xloss.cross_entropy)(x, labels),
            value_and_grad(xloss.cross_entropy)(x, labels)[1],
        ]
    for loss in got:
        np.testing.assert_allclose(loss, np.log(classes), rtol=2e-7)
    for gradient in gradients:
        np.testing.assert_array_equal(gradient, slope)
