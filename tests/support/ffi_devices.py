"""Four devices of JAX on the host: what the compiled engine does with rows that are spread.

Run in a process of its own, for JAX counts its devices once.
"""

from __future__ import annotations

import re
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import xloss
from expected import near
from xloss import EngineUnavailable, value_and_grad

ROWS, CLASSES = 64, 132
draw = np.random.default_rng(0)
x = draw.standard_normal((ROWS, CLASSES), np.float32)
y = draw.integers(0, CLASSES, ROWS).astype(np.int32)
y[5] = -100
t = (np.exp(x) / np.exp(x).sum(-1, keepdims=True)).astype(np.float32)
weight = draw.random(CLASSES).astype(np.float32)
sample = draw.random(ROWS).astype(np.float32)
GATHERED = re.compile(r" (all-gather|all-to-all|collective-permute)\w*\(")
CALLED = "xloss_rows_2"


def loss(x: Any, t: Any, **options: Any) -> Any:
    with xloss.use_engine("cpu"):
        return xloss.cross_entropy(x, t, reduction="none", **options)


def both(x: Any, t: Any, **options: Any) -> Any:
    with xloss.use_engine("cpu"):
        return value_and_grad(xloss.cross_entropy)(x, t, reduction="none", **options)


def back(x: Any, t: Any, **options: Any) -> Any:
    return jax.grad(lambda x: loss(x, t, **options).sum())(x)


def automatic(kind: Any) -> None:
    """Rows spread by the types of arrays, or by the compiler: each device has its own."""
    mesh = jax.make_mesh((4,), ("d",), axis_types=(kind,))

    def spread(a: np.ndarray, *names: Any) -> Any:
        return jax.device_put(a, NamedSharding(mesh, P(*names)))

    given = {"weight": spread(weight, None), "sample_weight": spread(sample, "d")}
    plain = {"weight": weight, "sample_weight": sample}
    for targets, options, kept in ((y, {}, {}), (y, given, plain), (t, {}, {})):
        arrays = spread(x, "d"), spread(targets, "d")
        want = value_and_grad(xloss.cross_entropy)(x, targets, reduction="none", **kept)
        for function, expected in ((loss, want[0]), (both, want), (back, want[1])):
            compiled = jax.jit(function).lower(*arrays, **options).compile()
            text = compiled.as_text()
            assert CALLED in text, (function, kept)
            assert not GATHERED.search(text), (function, kept, GATHERED.findall(text))
            got = compiled(*arrays, **options)
            for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
                np.testing.assert_array_equal(np.asarray(a), b)
                assert a.sharding.spec[0] == "d", a.sharding
    # Not asked for, it would gather classes that are spread: core's formula gathers nothing.
    classes = spread(x, None, "d")
    quiet = jax.jit(jax.value_and_grad(xloss.cross_entropy)).lower(classes, y).compile()
    assert CALLED not in quiet.as_text()
    assert "all-gather" not in quiet.as_text()
    got, grad = quiet(classes, y)
    want, slope = value_and_grad(xloss.cross_entropy)(x, y)
    near(got, want, 8)
    near(grad, slope, 16, abs(slope).max())
    assert grad.sharding.spec == P(None, "d")
    rows = spread(x, "d"), spread(y, "d")
    mean = jax.jit(xloss.cross_entropy).lower(*rows).compile()
    assert not GATHERED.search(mean.as_text()), GATHERED.findall(mean.as_text())
    np.testing.assert_array_max_ulp(np.asarray(mean(*rows)), xloss.cross_entropy(x, y), 2)
    with pytest.raises(EngineUnavailable, match="class weights"):
        jax.jit(lambda x, y, w: loss(x, y, weight=w, label_smoothing=0.1))(
            *rows, spread(weight, None)
        )


def manual() -> None:
    """Inside shard_map an array is this device's: every option, asked for or not."""
    mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))
    rows, whole = P("d"), P()
    options = {"weight": weight, "label_smoothing": 0.125, "z_loss": 0.25}
    want = value_and_grad(xloss.cross_entropy)(x, y, reduction="none", **options)
    for check in (True, False):

        def each(x: Any, y: Any) -> Any:
            return value_and_grad(xloss.cross_entropy)(x, y, reduction="none", **options)

        call = jax.jit(
            jax.shard_map(
                each, mesh=mesh, in_specs=(rows, rows), out_specs=(rows, rows), check_vma=check
            )
        )
        assert CALLED in call.lower(x, y).compile().as_text()
        for a, b in zip(call(x, y), want, strict=True):
            np.testing.assert_array_equal(np.asarray(a), b)

        def total(x: Any, y: Any) -> Any:
            own = xloss.cross_entropy(x, y, reduction="sum", **options)
            return jax.lax.psum(own, "d")  # type: ignore[no-untyped-call]

        summed = jax.shard_map(
            total, mesh=mesh, in_specs=(rows, rows), out_specs=whole, check_vma=check
        )
        got = jax.jit(jax.grad(summed))(x, y)
        np.testing.assert_array_equal(np.asarray(got), want[1])


def stays_there() -> None:
    automatic(AxisType.Auto)
    automatic(AxisType.Explicit)
    manual()
