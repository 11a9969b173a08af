"""What a rank of test_spread.py does: each case on its own classes, by each library's autodiff."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np

import xloss
from spread import GROUP, part
from xloss.core import linear as cutting
from xloss_conformance.model import Case
from xloss_conformance.packed import LINEAR, unpack
from xloss_conformance.rounding import stored

BY_CLASS = ("weight", "class_weight", "bias")
ROOM = 64  # bytes of a block of logits: some rows, of which ranks must cut equally many


class Call(NamedTuple):
    """A call on whole arrays of NumPy, and the positions and names that its gradients go to."""

    loss: Callable[..., Any]
    arrays: tuple[Any, ...]
    options: dict[str, Any]
    names: tuple[Any, ...] = (0,)

    @property
    def linear(self) -> bool:
        return len(self.arrays) == 3

    @property
    def classes(self) -> int:
        return int(self.arrays[1].shape[0] if self.linear else self.arrays[0].shape[-1])

    def class_axis(self, name: Any) -> int | None:
        """Return the axis of the classes in an argument, or in the gradient to it."""
        if name == 0 and not self.linear:
            return self.arrays[0].ndim - 1
        return 0 if name in BY_CLASS or (name == 1 and self.linear) else None

    def held(self, name: Any, a: Any, classes: slice) -> Any:
        """Return what a rank has of an argument, or of the gradient to it."""
        axis = self.class_axis(name)
        return a if axis is None else a[(slice(None),) * axis + (classes,)]


def call_of(case: Case, dtype: str) -> Call:
    """Return the call that a case of the suite asks for."""
    given = stored(case, dtype)
    if case.loss != LINEAR:
        arrays = given.x, given.targets
        return Call(xloss.vocab_parallel_cross_entropy, arrays, given.options)
    features, weight, bias = unpack(given.x, len(given.targets))
    options = {**given.options, "bias": bias}
    return Call(
        xloss.linear_cross_entropy, (features, weight, given.targets), options, (0, 1, "bias")
    )


def of_numpy(call: Call, group: Any) -> Any:
    """Return value and closed-form gradients; the value alone has the same bits."""
    loss, options = call.loss, {"group": group, **call.options}
    value, grads = xloss.value_and_grad(loss, call.names)(*call.arrays, **options)
    if not call.linear:  # whose products need not be the same bits
        np.testing.assert_array_equal(loss(*call.arrays, **options), value)
    return value, grads


def of_torch(call: Call, group: Any) -> Any:
    import torch

    arrays: list[Any] = [torch.tensor(np.asarray(a)) for a in call.arrays]
    options: dict[str, Any] = {
        k: torch.tensor(v) if hasattr(v, "dtype") else v for k, v in call.options.items()
    }
    followed = [
        (arrays[name] if isinstance(name, int) else options[name]).requires_grad_()
        for name in call.names
    ]
    value = call.loss(*arrays, group=group, **options)
    value.sum().backward()
    return value.detach().numpy(), [a.grad.numpy() for a in followed]


def of_jax(call: Call) -> Any:
    """Every device's share at once: classes in equal slices, filled up with masked ones."""
    import jax
    from jax.sharding import AxisType, PartitionSpec

    devices = len(jax.devices())
    mesh = jax.make_mesh((devices,), ("v",), axis_types=(AxisType.Auto,))
    fill = -call.classes % devices
    given = {str(i): np.asarray(a) for i, a in enumerate(call.arrays)}
    given |= {k: v for k, v in call.options.items() if hasattr(v, "dtype")}
    fixed = {k: v for k, v in call.options.items() if k not in given}
    specs = dict.fromkeys(given, PartitionSpec())
    for name in given:
        a, axis = given[name], call.class_axis(int(name) if name.isdigit() else name)
        if axis is None:
            continue
        specs[name] = PartitionSpec(*(None,) * axis, "v")
        if fill:
            more = [(0, fill * (i == axis)) for i in range(a.ndim)]
            given[name] = np.pad(a, more, constant_values=-np.inf if name in ("0", "bias") else 1)

    def one(given: dict[str, Any]) -> Any:
        arrays = [given[str(i)] for i in range(len(call.arrays))]
        options = {k: v for k, v in given.items() if not k.isdigit()}
        return call.loss(*arrays, group="v", **options, **fixed)

    every = jax.shard_map(one, mesh=mesh, in_specs=(specs,), out_specs=PartitionSpec())
    followed = {str(name): jax.numpy.asarray(given[str(name)]) for name in call.names}
    value, back = jax.vjp(jax.jit(lambda some: every({**given, **some})), followed)
    (grads,) = back(jax.numpy.ones_like(value))
    whole = slice(0, call.classes)
    return np.asarray(value), [
        call.held(name, np.asarray(grads[str(name)]), whole) for name in call.names
    ]


def computed(kind: str, cases: list[tuple[Case, str]], engine: str | None) -> list[Any]:
    """Return the value and the gradients that a rank has of each case."""
    cutting.LOGITS_BUDGET_BYTES = ROOM
    calls = [call_of(*case) for case in cases]
    if kind == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
        return [of_jax(call) for call in calls]
    group, rank, ranks = GROUP
    way = {"mpi": of_numpy, "gloo": of_torch}[kind]
    made = []
    with nullcontext() if engine is None else xloss.use_engine(engine):
        for call in calls:
            held = part(ranks, rank, call.classes)
            own = call._replace(
                arrays=tuple(call.held(i, a, held) for i, a in enumerate(call.arrays)),
                options={k: call.held(k, v, held) for k, v in call.options.items()},
            )
            made.append(way(own, group))
    return made
