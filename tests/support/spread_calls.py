"""What a rank of test_spread.py does: each case on its own classes, by each library's autodiff."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np

import xloss
from spread import GROUP, part
from xloss.core import linear as cutting
from xloss_conformance.model import Case
from xloss_conformance.packed import LINEAR, call
from xloss_conformance.rounding import stored

ROOM = 64  # bytes of a block of logits: some rows, of which ranks must cut equally many


def of_whole(
    case: Case,
    cut: Callable[..., Any],
    group: Any,
    made: Callable[..., Any] = lambda loss, names: loss,
) -> Callable[..., Any]:
    """Return a loss of whole arrays, of whose classes `cut` takes this rank's; or its gradients."""

    def loss(x: Any, t: Any, weight: Any = None, **options: Any) -> Any:
        function = made(xloss.vocab_parallel_cross_entropy, 0)
        own = cut(x, x.ndim - 1, -np.inf)
        return function(own, t, weight=cut(weight, 0, 1), group=group, **options)

    def linear(x: Any, w: Any, t: Any, bias: Any, class_weight: Any = None, **options: Any) -> Any:
        function = made(xloss.linear_cross_entropy, (0, 1, "bias"))
        by_class = {"bias": cut(bias, 0, -np.inf), "class_weight": cut(class_weight, 0, 1)}
        return function(x, cut(w, 0, 1), t, group=group, **by_class, **options)

    return linear if case.loss == LINEAR else loss


def held(a: Any, axis: int, fill: float = 0.0) -> Any:
    """Return the classes of a rank that is a process."""
    _, rank, ranks = GROUP
    return None if a is None else a[(slice(None),) * axis + (part(ranks, rank, a.shape[axis]),)]


def of_numpy(case: Case, x: Any, t: Any, options: dict[str, Any]) -> Any:
    """Return value and closed-form gradients; the value alone has the same bits."""
    both = of_whole(case, held, GROUP[0], xloss.value_and_grad)
    value, grad = call(both, case.loss, x, t, options)
    if case.loss != LINEAR:  # whose products need not be the same bits
        alone = call(of_whole(case, held, GROUP[0]), case.loss, x, t, options)
        np.testing.assert_array_equal(alone, value)
    return value, grad


def of_torch(case: Case, x: Any, t: Any, options: dict[str, Any]) -> Any:
    import torch

    options = {k: torch.tensor(v) if hasattr(v, "dtype") else v for k, v in options.items()}
    followed, t = torch.tensor(x).requires_grad_(), torch.tensor(t)
    value = call(of_whole(case, held, GROUP[0]), case.loss, followed, t, options)
    value.sum().backward()
    assert followed.grad is not None
    grad = followed.grad.numpy()
    if case.loss == LINEAR:
        own = np.concatenate([grad[: len(t)], held(grad[len(t) :], 0)])
    else:
        own = held(grad, grad.ndim - 1)
    return value.detach().numpy(), own


def of_jax(case: Case, x: Any, t: Any, options: dict[str, Any]) -> Any:
    """Every device's share at once: classes in equal slices, filled up with masked ones."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import AxisType, PartitionSpec

    devices = len(jax.devices())
    mesh = jax.make_mesh((devices,), ("v",), axis_types=(AxisType.Auto,))

    def cut(a: Any, axis: int, fill: float) -> Any:
        if a is None:
            return None
        size = -(-a.shape[axis] // devices)
        more = [(0, (size * devices - n) * (i == axis)) for i, n in enumerate(a.shape)]
        whole = jnp.pad(a, more, constant_values=fill)
        return jax.lax.dynamic_slice_in_dim(whole, jax.lax.axis_index("v") * size, size, axis)

    def every(x: Any) -> Any:
        return call(of_whole(case, cut, "v"), case.loss, x, jnp.asarray(t), options)

    whole = PartitionSpec()
    spread = jax.jit(jax.shard_map(every, mesh=mesh, in_specs=whole, out_specs=whole))
    value, back = jax.vjp(spread, jnp.asarray(x))
    return np.asarray(value), np.asarray(*back(jnp.ones_like(value)))


def computed(kind: str, cases: list[tuple[Case, str]], engine: str | None) -> list[Any]:
    """Return the value and the gradient that a rank has of each case."""
    cutting.LOGITS_BUDGET_BYTES = ROOM
    if kind == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    way = {"mpi": of_numpy, "gloo": of_torch, "jax": of_jax}[kind]
    with nullcontext() if engine is None else xloss.use_engine(engine):
        given = [(case, stored(case, dtype)) for case, dtype in cases]
        return [way(case, own.x, own.targets, own.options) for case, own in given]
