"""JAX: jit, grad, vmap, jvp, hessian, through masked classes and ties."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import xloss
from derivative_cases import CASES
from nightly import core

jax = pytest.importorskip("jax")
jnp = jax.numpy


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def draw(seed: int, shape: tuple[int, ...] = (3, 4)) -> Any:
    return jax.random.normal(jax.random.key(seed), shape, dtype=jnp.float64)


def check(function: Callable[..., Any], *args: Any) -> None:
    """Hold first and second derivatives, forward and backward, to finite differences.

    The second of a mode is of its own first: mixtures are in the Hessians of the tests below, and
    each more takes JAX seconds to compile.
    """
    from jax.test_util import check_grads

    for mode in ("fwd", "rev"):
        check_grads(
            jax.jit(function),
            args,
            order=2,
            modes=[mode],
            atol=2e-5,
            rtol=2e-5,
            eps=1e-5,
        )


BY_DAY = ("cross_entropy of soft targets", "binary_cross_entropy_with_logits")
OPS = ("logsumexp", "softmax", "log_softmax", "entropy")


# Several seconds each: JAX compiles every step of two derivatives, forward and backward.
@pytest.mark.parametrize("name", core(CASES, lambda name: name in (*BY_DAY, *OPS)))
def test_twice(name: str) -> None:
    """Smoothed and weighted, to logits and soft targets; to logits with labels; of logits alone."""
    function, arrays = CASES[name]
    check(function, *map(jnp.asarray, arrays))


@pytest.mark.parametrize("classes", [4, 130])
def test_jit_grad_vmap_jvp_hessian_agree_with_the_closed_form(classes: int) -> None:
    """One loss under every transformation; of many classes derivatives start from statistics."""
    z, y = draw(0, (3, classes)), jnp.asarray([0, 1, 3])

    def loss(x: Any) -> Any:
        return xloss.cross_entropy(x, y, label_smoothing=0.1)

    value, gradient = xloss.value_and_grad(xloss.cross_entropy)(z, y, label_smoothing=0.1)
    # Two programs: XLA contracts and orders the operations of each by itself.
    np.testing.assert_allclose(jax.jit(loss)(z), value, rtol=4 * np.finfo(float).eps)
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(z), gradient, rtol=1e-14, atol=1e-17)
    v = draw(7, z.shape)
    np.testing.assert_allclose(jax.jvp(loss, (z,), (v,))[1], (gradient * v).sum(), rtol=1e-13)
    rows = jax.vmap(lambda x, t: xloss.cross_entropy(x, t, label_smoothing=0.1))(z, y)
    np.testing.assert_allclose(rows.mean(), value, rtol=1e-14)

    def textbook(x: Any) -> Any:
        q = 0.9 * jax.nn.one_hot(y, classes) + 0.1 / classes
        return -(q * jax.nn.log_softmax(x)).sum() / 3

    want = jax.jit(jax.hessian(textbook))(z)
    for second in (jax.hessian, lambda f: jax.jacrev(jax.jacrev(f))):
        np.testing.assert_allclose(jax.jit(second(loss))(z), want, rtol=0, atol=1e-14)


def test_masked_classes_and_ties() -> None:
    """-inf logits and equal maxima: finite to second order, and the derivative of the formula."""
    tied = jnp.asarray([[2.0, 2.0, -1.0, 0.5]])
    y = jnp.asarray([1])
    hessian = jax.jit(jax.hessian(lambda x: xloss.cross_entropy(x, y)))
    p = np.asarray(jax.nn.softmax(tied))[0]
    np.testing.assert_allclose(hessian(tied)[0, :, 0], np.diag(p) - np.outer(p, p), atol=1e-15)
    masked = jnp.concatenate([tied, jnp.full((1, 1), -jnp.inf)], axis=1)
    functions = (
        lambda x: xloss.cross_entropy(x, y, label_smoothing=0.1),
        lambda x: xloss.focal_loss(x, y),
        lambda x: xloss.entropy(x).sum(),
        lambda x: xloss.logsumexp(x).sum(),
    )
    for g, h in jax.jit(lambda x: [(jax.grad(f)(x), jax.hessian(f)(x)) for f in functions])(masked):
        assert bool(jnp.isfinite(g).all())
        assert bool(jnp.isfinite(h).all())
        assert g[0, 4] == 0
        assert not h[0, 4].any()


def test_weights_are_constants() -> None:
    """The gradient to a weight is zero, not something half computed."""
    z, y = draw(0), jnp.asarray([0, 1, 3])
    g = jax.grad(lambda w: xloss.cross_entropy(z, y, weight=w))(jnp.ones(4))
    assert not g.any()
    g = jax.grad(lambda s: xloss.cross_entropy(z, y, sample_weight=s))(jnp.ones(3))
    assert not g.any()


def test_an_upstream_gradient_comes_before_the_rounding_to_16_bits() -> None:
    """e^-20 is 0 in float16: rounded before a loss scale multiplies it, it would stay 0."""
    x = jnp.asarray([[0.0, -20.0]], dtype=jnp.float16)
    value, back = jax.vjp(lambda x: xloss.cross_entropy(x, jnp.asarray([0])), x)
    (gradient,) = back(jnp.asarray(65536.0, dtype=value.dtype))
    want = np.float16(65536.0 * np.exp(-20.0))
    assert gradient.dtype == jnp.float16
    np.testing.assert_array_equal(np.asarray(gradient), np.array([[-want, want]]))
