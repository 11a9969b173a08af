"""What JAX does to a program that calls the compiled engine: each transformation, its own rule."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

import xloss
from ffi_cases import ROWS, SAMPLE, drawn, same
from xloss import value_and_grad

jax = pytest.importorskip("jax")
jnp = jax.numpy

REASON = xloss.engines()["cpu"]
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"no CPU engine: {REASON}")
TARGET = "xloss_rows_2"


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
