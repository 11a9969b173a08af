"""Targets of a few classes a row under JAX's transformations."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nightly import core
from xloss import TopKTargets, cross_entropy, value_and_grad

RNG = np.random.default_rng(11)
Z = jnp.asarray(RNG.normal(size=(4, 6)), jnp.float32)
INDICES = jnp.asarray([[0, 1, 1], [2, 3, 4], [5, -100, 4], [1, 2, 0]])
P = jnp.asarray(RNG.random((4, 3)) * 0.3, jnp.float32)
# A rest spread evenly has all that none has, and the others' share.
RESTS = pytest.mark.parametrize("rest", core(["zero", "uniform"], lambda rest: rest == "uniform"))


def test_the_record_passes_through_transformations():
    teacher = TopKTargets(INDICES, P, "uniform")
    value, (g, h) = value_and_grad(cross_entropy, (0, 1))(Z, teacher)
    by_both = jax.value_and_grad(cross_entropy, (0, 1), allow_int=True)
    got, (by_z, by_record) = jax.jit(by_both)(Z, teacher)
    np.testing.assert_allclose(got, value, rtol=1e-6)
    np.testing.assert_allclose(by_z, g, atol=1e-7)
    np.testing.assert_allclose(by_record.probabilities, h, atol=1e-6)
    rows = cross_entropy(Z, teacher, reduction="none")
    each = jax.vmap(lambda z, t: cross_entropy(z, t, reduction="none"))(Z, teacher)
    np.testing.assert_allclose(each, rows, rtol=1e-6)


@RESTS
def test_second_derivatives_are_those_of_targets_written_out(rest):
    dense = np.zeros((4, 6), np.float32)
    there = INDICES >= 0
    np.add.at(dense, (np.nonzero(there)[0], INDICES[there]), P[there])  # row 0 has class 1 twice
    if rest == "uniform":
        for row, places in zip(dense, INDICES.tolist(), strict=True):
            others = [j for j in range(6) if j not in places]
            row[others] = (1 - row.sum()) / len(others)
    teacher = TopKTargets(INDICES, P, rest)
    hessian = jax.jit(jax.hessian(cross_entropy))
    got, want = hessian(Z, teacher), hessian(Z, jnp.asarray(dense))
    np.testing.assert_allclose(got, want, atol=2e-6)


def test_no_array_of_the_logits_size_is_made_beside_the_gradient():
    z = jnp.zeros((64, 32768), jnp.float32)
    teacher = TopKTargets(jnp.tile(jnp.arange(8), (64, 1)), jnp.full((64, 8), 0.0625))
    step = jax.jit(jax.value_and_grad(cross_entropy)).lower(z, teacher).compile()
    # A few dozen arrays of 4 bytes for each of 8 · 8 pairs of slots, and what reductions share.
    assert step.memory_analysis().temp_size_in_bytes < 40 * 4 * 64 * 64 + 2**17
