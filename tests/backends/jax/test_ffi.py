"""JAX on the host by the compiled engine: the bits of NumPy's rows and gradients, in every option.

NumPy's own are held to the oracle elsewhere; here both take the same kernels, so that nothing but
equality will do. Each transformation has a rule of its own.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest

import xloss
from xloss import value_and_grad

jax = pytest.importorskip("jax")
jnp = jax.numpy
ml_dtypes = pytest.importorskip("ml_dtypes")

REASON = xloss.engines()["cpu"]
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"no CPU engine: {REASON}")
TARGET = "xloss_rows_2"
ROWS = 40
SAMPLE = np.where(np.arange(ROWS) % 3 == 0, 0, np.arange(ROWS) / 8).astype(np.float32)


def drawn(classes: int, dtype: Any = np.float32) -> tuple[np.ndarray, np.ndarray]:
    """Logits with ties, masked and infinite ones, a NaN row; labels ignored and out of range."""
    rng = np.random.default_rng(classes)
    z = (rng.standard_normal((ROWS, classes)) * 4).astype(dtype)
    z[1, :2] = z[1].max() + 1
    z[2, 1:] = -np.inf
    z[3, 0] = np.inf
    z[4, 1] = np.nan
    z[5] = -np.inf
    y = rng.integers(0, classes, ROWS).astype(np.int32)
    y[2], y[6], y[7], y[8] = 0, -100, classes, -1
    return z, y


def soft(classes: int, dtype: Any = np.float32) -> np.ndarray:
    t = np.random.default_rng(1).random((ROWS, classes))
    t[:, 0] = 0
    return (t / t.sum(-1, keepdims=True)).astype(dtype)


def same(got: Any, want: Any) -> None:
    """Hold every bit but a NaN's."""
    got, want = np.asarray(got), np.asarray(want)
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    nan = np.isnan(want.astype(np.float64))
    np.testing.assert_array_equal(np.isnan(got.astype(np.float64)), nan)
    bits = f"u{want.dtype.itemsize}"
    np.testing.assert_array_equal(got.view(bits)[~nan], want.view(bits)[~nan])


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


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "uint32", "int64", "uint64"])
def test_labels_of_every_integer_dtype(dtype):
    """Narrow ones are no indices of the handler's, and a large unsigned one is not -100."""
    x, y = drawn(100)
    labels = y.astype(dtype)
    with jax.enable_x64(dtype in ("int64", "uint64")):
        held(x, labels)
        held(x, labels, ignore_index=int(labels[6]))
        held(x, labels, ignore_index=300, label_smoothing=0.1)


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


def loss(x: Any, y: Any, **options: Any) -> Any:
    with xloss.use_engine("cpu"):
        return xloss.cross_entropy(x, y, **options)


def plain(classes: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(classes)
    x = rng.standard_normal((6, classes), np.float32)
    return x, rng.integers(0, classes, 6).astype(np.int32)


@pytest.mark.parametrize("classes", [5, 130])
def test_autodiff_has_the_closed_form_s_bits(classes):
    """The upstream reaches the kernel, and nothing is rounded before it."""
    x, y = drawn(classes)
    labels = jnp.asarray(y)  # NumPy's would be read, and the wrong one refused
    up = np.linspace(-1, 2, ROWS, dtype=np.float32)
    for options in ({}, {"label_smoothing": 0.25}, {"sample_weight": SAMPLE}):
        rows = partial(loss, reduction="none", **options)

        @jax.jit
        def back(x: Any, up: Any, rows: Any = rows) -> Any:
            value, pull = jax.vjp(lambda x: rows(x, labels), x)
            return value, pull(up)[0]

        want = value_and_grad(xloss.cross_entropy)(
            x, y, cotangent=up, reduction="none", validate=False, **options
        )
        for got, expected in zip(back(x, up), want, strict=True):
            same(got, expected)


def test_a_gradient_starts_from_saved_statistics():
    """Of many classes; the program calls twice, the second time with what the first left."""
    x, y = plain(130)
    text = jax.jit(jax.value_and_grad(loss)).lower(x, y).as_text()
    assert text.count(f"@{TARGET}") == 2
    assert "x2xui32" in text
    once = jax.jit(lambda x: value_and_grad(xloss.cross_entropy)(x, y)).lower(x).as_text()
    assert once.count(f"@{TARGET}") == 1


def test_a_gradient_that_is_computed_is_differentiated_again():
    """Value and gradient of one call, both in what is differentiated."""
    x, y = plain(5)

    def closed(x: Any) -> Any:
        with xloss.use_engine("cpu"):
            value, gradient = value_and_grad(xloss.cross_entropy)(x, y)
        return value + (gradient * gradient).sum()

    def textbook(x: Any) -> Any:
        def mean(x: Any) -> Any:
            return -jax.nn.log_softmax(x)[np.arange(6), y].mean()

        return mean(x) + (jax.grad(mean)(x) ** 2).sum()

    ours, exact = (jax.jit(jax.grad(f))(x) for f in (closed, textbook))
    np.testing.assert_allclose(ours, exact, rtol=1e-4, atol=1e-7)


def test_mapped_rows_are_rows():
    x, y = drawn(5)
    want = xloss.cross_entropy(x, y, reduction="none", validate=False)
    slopes = value_and_grad(xloss.cross_entropy)(x, y, reduction="sum", validate=False)[1]
    same(jax.vmap(partial(loss, reduction="none"))(x, y), want)
    same(jax.jit(jax.vmap(jax.grad(partial(loss, reduction="sum"))))(x, y), slopes)
    three = jax.vmap(partial(loss, reduction="none"), in_axes=(1, None), out_axes=1)
    x, y = jnp.asarray(x), jnp.asarray(y)
    same(three(np.stack([x] * 3, 1), y), np.broadcast_to(want[:, None], (ROWS, 3)))
    # Labels mapped over the same logits, and the other way.
    several = jax.vmap(partial(loss, reduction="none"), in_axes=(None, 0))(x, np.stack([y, y]))
    same(several, np.stack([want, want]))
    # Class weights of each call's own.
    twos = jax.vmap(lambda w: loss(x, y, weight=w, reduction="none"))(np.full((2, 5), 2, "f4"))
    np.testing.assert_allclose(twos, np.stack([2 * want] * 2), rtol=1e-5)
    assert f"@{TARGET}" in jax.jit(jax.vmap(loss)).lower(x, y).as_text()


def test_recomputed_looped_and_of_a_donated_argument():
    x, y = plain(130)
    want = value_and_grad(xloss.cross_entropy)(x, y, reduction="sum")[1]
    total = partial(loss, reduction="sum")
    same(jax.jit(jax.grad(jax.checkpoint(total)))(x, y), want)

    def scanned(x: Any) -> Any:
        return jax.lax.scan(lambda s, a: (s + total(*a), None), jnp.float32(0), (x, y))[0]

    same(jax.jit(jax.grad(scanned))(x), want)
    given = jnp.array(x)
    same(jax.jit(jax.grad(total), donate_argnums=0)(given, y), want)
    assert given.is_deleted()
