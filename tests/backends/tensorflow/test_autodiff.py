"""TensorFlow: tapes to second order, Jacobians, Variables, through masked classes and ties."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import derivative_cases
import xloss
from derivative_cases import CASES, LABELS
from expected import labels, soft
from xloss.engines.cpu import engine as cpu

tf = pytest.importorskip("tensorflow")


def draw(*shape: int, seed: int = 0) -> Any:
    return tf.constant(derivative_cases.draw(*shape, seed=seed))


def slope(function: Callable[..., Any], args: tuple[Any, ...]) -> list[Any]:
    with tf.GradientTape() as tape:
        tape.watch(args)
        value = function(*args)
    return tape.gradient(value, args, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def check(function: Callable[..., Any], *args: Any) -> None:
    """Hold first and second derivatives, eager, traced and of what is traced, to differences."""
    steps = [draw(*a.shape, seed=i) for i, a in enumerate(args)]
    h = 1e-5

    def moved(by: float) -> tuple[Any, ...]:
        return tuple(a + by * d for a, d in zip(args, steps, strict=True))

    def along(*args: Any) -> Any:
        """The derivative along the steps: its own gradient is a second derivative."""
        grads = slope(function, args)
        return sum(tf.reduce_sum(g * d) for g, d in zip(grads, steps, strict=True))

    def squares(*args: Any) -> Any:
        return tf.reduce_sum(function(*args) ** 2)

    for f, off in ((function, 2e-6), (squares, 2e-6), (along, 2e-5)):
        numeric = tf.reduce_sum((f(*moved(h)) - f(*moved(-h))) / (2 * h))
        for way in (slope, tf.function(slope, autograph=False)):
            found = zip(way(f, args), steps, strict=True)
            got = sum(tf.reduce_sum(g * d) for g, d in found)
            np.testing.assert_allclose(got, numeric, atol=off, rtol=off)
    want, function = slope(along, args), tf.function(function, autograph=False)
    for got, plain in zip(slope(along, args), want, strict=True):
        # The same float64 operations: a graph may at most order sums otherwise.
        np.testing.assert_allclose(got, plain, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", CASES)
def test_twice(name: str) -> None:
    """Smoothed and weighted, to logits and soft targets; to logits with labels; of logits alone."""
    function, arrays = CASES[name]
    check(function, *map(tf.constant, arrays))


def test_row_losses_and_linear_twice() -> None:
    """What is not reduced has a cotangent each; features, weight, bias and targets in blocks."""
    check(lambda x: xloss.cross_entropy(x, LABELS, reduction="none"), draw(3, 4))

    def loss(x: Any, w: Any, b: Any, t: Any) -> Any:
        return xloss.linear_cross_entropy(x, w, t, bias=b, block_rows=2)

    t = tf.nn.softmax(draw(5, 4, seed=5))
    check(loss, draw(5, 3), draw(4, 3, seed=1), draw(4, seed=2), t)


@pytest.mark.skipif(cpu.unavailable() is not None, reason=f"no CPU engine: {cpu.unavailable()}")
def test_statistics_are_saved_and_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient of many classes is one pass: the kernel is called once for each."""
    seen, run = [], cpu.run

    def recorded(*given: Any, saved: Any = None) -> Any:
        seen.append((given[1].total, given[1].grad, saved is not None))
        return run(*given, saved=saved)

    monkeypatch.setattr(cpu, "run", recorded)
    slope(lambda z: xloss.cross_entropy(z, labels(8, 200)), (draw(8, 200),))
    assert seen == [(True, False, False), (False, True, True)]


def test_masked_classes_and_ties() -> None:
    """-inf logits and equal maxima: finite to second order, and the derivative of the formula."""
    tied = tf.constant([[2.0, 2.0, -1.0, 0.5]], tf.float64)
    y = tf.constant([1])

    def hessian(function: Callable[[Any], Any], x: Any) -> Any:
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                value = function(x)
            gradient = inner.gradient(value, x)
        return gradient, outer.jacobian(gradient, x)

    ways = (hessian, tf.function(hessian, autograph=False))
    p = tf.nn.softmax(tied)[0].numpy()
    masked = tf.concat([tied, tf.fill((1, 1), tf.constant(-np.inf, tf.float64))], 1)
    for way in ways:
        _, h = way(lambda x: xloss.cross_entropy(x, y), tied)
        np.testing.assert_allclose(h[0, :, 0], np.diag(p) - np.outer(p, p), atol=1e-15)
        for function in (
            lambda x: xloss.cross_entropy(x, y, label_smoothing=0.1),
            lambda x: xloss.focal_loss(x, y),
            lambda x: tf.reduce_sum(xloss.entropy(x)),
            lambda x: tf.reduce_sum(xloss.logsumexp(x)),
        ):
            g, h = way(function, masked)
            assert np.isfinite(g).all()
            assert np.isfinite(h).all()
            assert g[0, 4] == 0
            assert not np.any(h[0, 4])


def test_jacobian_forward_mode_and_vectorized_map() -> None:
    """What a trace asks of an eager gradient, and rows mapped one by one."""
    z, y = draw(3, 4), tf.constant([0, 1, 3])

    def rows(x: Any) -> Any:
        return xloss.cross_entropy(x, y, label_smoothing=0.1, reduction="none")

    _, gradient = xloss.value_and_grad(xloss.cross_entropy)(
        z, y, label_smoothing=0.1, reduction="none"
    )
    with tf.GradientTape() as tape:
        tape.watch(z)
        value = rows(z)
    jacobian = tape.jacobian(value, z)
    for i in range(3):
        np.testing.assert_allclose(jacobian[i, i], gradient[i], rtol=1e-13)
        assert not np.any(jacobian[i, (i + 1) % 3])
    v = draw(3, 4, seed=7)
    # Forward, and forward over backward, as TensorFlow's guide has a Hessian times a vector.
    with tf.autodiff.ForwardAccumulator(z, v) as forward:
        (first,) = slope(rows, (z,))
        value = rows(z)
    np.testing.assert_allclose(forward.jvp(value), (gradient * v).numpy().sum(-1), rtol=1e-13)
    (along,) = slope(lambda z: tf.reduce_sum(slope(rows, (z,))[0] * v), (z,))
    np.testing.assert_allclose(forward.jvp(first), along, rtol=1e-12)
    one = tf.vectorized_map(
        lambda pair: xloss.cross_entropy(pair[0], pair[1], label_smoothing=0.1), (z, y)
    )
    np.testing.assert_allclose(one, value, rtol=1e-14)


def test_variables_and_constants() -> None:
    """A Variable is its value, followed by the tape; weights are constants of the loss."""
    z, w, y = tf.Variable(draw(3, 4)), tf.Variable([1.0, 2.0, 0.5]), labels(3, 4)
    t = tf.Variable(soft((3, 4)))
    with tf.GradientTape(persistent=True) as tape:
        value = xloss.cross_entropy(z, y, sample_weight=w)
        other = xloss.cross_entropy(z, t)
    want, gradient = xloss.value_and_grad(xloss.cross_entropy)(z, y, sample_weight=w)
    assert value == want
    np.testing.assert_array_equal(tape.gradient(value, z), gradient)
    assert tape.gradient(value, w) is None
    _, to_targets = xloss.value_and_grad(xloss.cross_entropy, 1)(z, t)
    np.testing.assert_allclose(tape.gradient(other, t), to_targets, rtol=1e-14)


def test_value_and_grad_is_recorded_by_no_tape() -> None:
    """Eager and traced: a tape around it finds nothing to follow."""

    def run(z: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(z)
            value, gradient = xloss.value_and_grad(xloss.cross_entropy)(z, LABELS)
            total = value + tf.reduce_sum(gradient)
        return tape.gradient(total, z)

    assert run(draw(3, 4)) is None
    assert tf.function(run, autograph=False)(draw(3, 4)) is None
