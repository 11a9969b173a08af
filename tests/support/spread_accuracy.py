"""What a rank of test_spread.py does: the loss and the gradient of cases of accuracy_cases.py."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np

import xloss
from spread import GROUP, part
from xloss_conformance.model import Stored

loss = xloss.vocab_parallel_cross_entropy


def of_numpy(x: Any, y: Any, comm: Any, options: dict[str, Any]) -> Any:
    return xloss.value_and_grad(loss)(x, y, group=comm, **options)


def of_torch(x: Any, y: Any, ranks: Any, options: dict[str, Any]) -> Any:
    import torch

    z = torch.from_numpy(x).requires_grad_()
    given = {k: torch.from_numpy(v) if hasattr(v, "dtype") else v for k, v in options.items()}
    value = loss(z, torch.from_numpy(y), group=ranks, **given)
    value.sum().backward()
    return value.detach().numpy(), z.grad.numpy()  # type: ignore[union-attr]


def of_jax(x: Any, y: Any, ranks: int, options: dict[str, Any]) -> Any:
    """Every device's share at once; the classes in equal slices, filled up with masked ones."""
    import jax
    from jax.sharding import AxisType, PartitionSpec

    mesh = jax.make_mesh((ranks,), ("v",), axis_types=(AxisType.Auto,))
    classes = x.shape[-1]
    fill = -classes % ranks
    x = np.pad(x, ((0, 0), (0, fill)), constant_values=-np.inf)
    weight = options.pop("weight", np.ones(classes, x.dtype))
    sample = options.pop("sample_weight", np.ones(len(x), x.dtype))
    spread, whole = PartitionSpec(None, "v"), PartitionSpec()

    def one(x: Any, y: Any, w: Any, s: Any) -> Any:
        return loss(x, y, group="v", weight=w, sample_weight=s, **options)

    every = jax.shard_map(
        one, mesh=mesh, in_specs=(spread, whole, PartitionSpec("v"), whole), out_specs=whole
    )
    w = np.pad(weight, (0, fill), constant_values=1)
    value, back = jax.jit(lambda x: jax.vjp(lambda x: every(x, y, w, sample), x))(x)
    return np.asarray(value), np.asarray(back(jax.numpy.ones_like(value))[0])[:, :classes]


def computed(kind: str, given: list[Stored], engine: str) -> list[tuple[Any, Any]]:
    """Return value and gradient of each call, of whose classes this rank holds a part."""
    if kind == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
        ranks, rank, size = len(jax.devices()), 0, 1
    else:
        ranks, rank, size = GROUP
    compute = {"mpi": of_numpy, "gloo": of_torch, "jax": of_jax}[kind]
    made = []
    with nullcontext() if engine == "any" else xloss.use_engine(engine):
        for call in given:
            held = part(size, rank, call.x.shape[-1])
            options = dict(call.options)
            if "weight" in options:
                options["weight"] = options["weight"][held]
            z = np.ascontiguousarray(call.x[:, held])
            made.append(compute(z, call.targets, ranks, options))
    return made
