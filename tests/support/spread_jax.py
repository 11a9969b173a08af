"""What devices of test_spread_libraries.py do: derivatives along a mesh axis, sharded arrays."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, PartitionSpec

import xloss
from expected import near

CLASSES = 16
COLLECTIVE = re.compile(r" (all-\w+|collective-\w+|reduce-scatter)[\w-]*\(")


def close(got: Any, want: Any, ulp: float) -> None:
    near(got, want, ulp, np.max(abs(np.asarray(want))))


def derivatives() -> None:
    jax.config.update("jax_enable_x64", True)
    mesh = jax.make_mesh((4,), ("v",), axis_types=(AxisType.Auto,))
    rng = np.random.default_rng(0)
    z = np.round(rng.standard_normal((6, CLASSES)) * 4096) / 1024
    z[1, :4] = -np.inf
    y = rng.integers(4, CLASSES, 6)
    y[3] = -100
    z, y, w = jnp.asarray(z), jnp.asarray(y), jnp.asarray(rng.integers(1, 9, CLASSES) / 8)
    v = jnp.cos(jnp.arange(CLASSES) + 0.0) + jnp.zeros_like(z)
    last, whole = PartitionSpec(None, "v"), PartitionSpec()
    options = {"label_smoothing": 0.1, "z_loss": 0.1, "softcap": 8.0}

    def one(z: Any, w: Any) -> Any:
        return xloss.vocab_parallel_cross_entropy(z, y, group="v", weight=w, **options)

    def dense(z: Any) -> Any:
        return xloss.cross_entropy(z, y, weight=w, **options)

    wanted = jax.jit(jax.value_and_grad(dense))(z)
    for check in (False, True):
        every = jax.shard_map(
            one,
            mesh=mesh,
            in_specs=(last, PartitionSpec("v")),
            out_specs=whole,
            check_vma=check,
        )

        def spread(z: Any, every: Any = every) -> Any:
            return every(z, w)

        both = jax.jit(jax.value_and_grad(spread)).lower(z).compile()
        for got, want, ulp in zip(both(z), wanted, (8, 16), strict=True):
            close(got, want, ulp)
    close(jax.jit(spread)(z), wanted[0], 8)

    def along(f: Any) -> Any:
        return jax.jit(lambda z: jax.jvp(f, (z,), (v,))[1])(z)

    close(along(spread), along(dense), 16)
    close(jax.jit(jax.hessian(spread))(z), jax.jit(jax.hessian(dense))(z), 32)
    inside = jax.shard_map(
        jax.grad(one), mesh=mesh, in_specs=(last, PartitionSpec("v")), out_specs=last
    )
    close(jax.jit(inside)(z, w), wanted[1], 16)
    text = both.as_text()
    # The maximum, the sum, and of class weights one number, the largest; nothing of the header,
    # nothing backward.
    assert COLLECTIVE.findall(text) == ["all-reduce"] * 3, COLLECTIVE.findall(text)
