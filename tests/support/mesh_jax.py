"""Four devices of JAX on the host: every loss of arrays spread along axes of type Explicit.

Run in a process of its own, for JAX counts its devices once. Such an axis refuses slices, gathers
and updates whose layout is not clear. The same call on one device other tests hold to the oracle.
"""

from __future__ import annotations

import contextlib
from functools import partial
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import xloss
from expected import LOSSES, inputs, labels, soft, targets
from xloss import value_and_grad
from xloss.gradients import DIFFERENTIABLE

ROWS, CLASSES, WIDTH = 8, 12, 16
SHAPE = ROWS, CLASSES
draw = np.random.default_rng(0)
z, y, t = inputs("cross_entropy", SHAPE), labels(ROWS, CLASSES), soft(SHAPE)
y[3] = -100
layer = draw.normal(size=(ROWS, WIDTH)), draw.normal(size=(CLASSES, WIDTH)), y
each = {
    "weight": draw.random(CLASSES),
    "sample_weight": draw.random(ROWS),
    "where": np.arange(ROWS) % 3 != 0,
}
CASES: dict[str, tuple[Any, tuple[Any, ...], dict[str, Any]]] = {
    name: (getattr(xloss, name), (inputs(name, SHAPE), targets(name, SHAPE)), {}) for name in LOSSES
}
CASES |= {
    "sum": (xloss.cross_entropy, (z, y), {"reduction": "sum"}),
    "none": (xloss.cross_entropy, (z, y), {"reduction": "none"}),
    "weights": (xloss.cross_entropy, (z, y), each),
    "soft": (xloss.cross_entropy, (z, t), {"label_smoothing": 0.125, "z_loss": 0.125}),
    "entropy": (xloss.entropy, (z,), {}),
    "softmax": (xloss.softmax, (z,), {}),
    "linear": (xloss.linear_cross_entropy, layer, {"block_rows": 4}),
    "l2": (lambda a: xloss.l2_penalty(a, strength=1.0), (z,), {}),
    "count": (xloss.effective_count, (y,), {}),
    "one_hot": (lambda labels: xloss.one_hot(abs(labels) % CLASSES, CLASSES), (y,), {}),
    "evaluation": (lambda *a: jnp.asarray(xloss.Evaluation().update(*a).result().loss), (z, y), {}),
}
# Each call is compiled: what differs in kind is tried jitted, with JAX's own derivative, and with
# classes that are spread too; the rest eagerly, by its closed form, on rows.
EVERY_WAY = {"cross_entropy", "soft", "linear"}


def spread(a: Any, mesh: Any) -> Any:
    """Spread an array's rows, and its classes if the mesh has a second axis; None: one device."""
    if mesh is None or not isinstance(a, np.ndarray):
        return jnp.asarray(a) if isinstance(a, np.ndarray) else a
    names = dict(zip((ROWS, CLASSES), mesh.axis_names, strict=False))
    return jax.device_put(jnp.asarray(a), NamedSharding(mesh, P(*(names.get(n) for n in a.shape))))


def every_loss() -> None:
    """Try every case in its layouts: eager, jitted, with gradients of both kinds."""
    line, square = jax.make_mesh((4,), ("data",)), jax.make_mesh((2, 2), ("data", "model"))
    for (name, (loss, args, options)), mesh in product(CASES.items(), (line, square)):
        if mesh is square and name not in EVERY_WAY:
            continue
        calls: dict[str, Any] = {"eager": lambda a, k, f=loss: f(*a, **k)}
        if loss in DIFFERENTIABLE:
            calls["closed form"] = lambda a, k, f=loss: value_and_grad(f)(*a, **k)
        if name in EVERY_WAY:
            calls["jit"] = lambda a, k, f=loss: jax.jit(partial(f, **k))(*a)
            calls["grad"] = lambda a, k, f=loss: jax.grad(lambda x: f(x, *a[1:], **k).sum())(a[0])
        alone, own = (
            jax.tree.map(partial(spread, mesh=home), (args, options)) for home in (None, mesh)
        )
        for how, call in calls.items():
            # JAX's own derivatives need the mesh in their context.
            with jax.set_mesh(mesh) if how == "grad" else contextlib.nullcontext():
                got, want = (jax.tree.leaves(call(*given)) for given in (own, alone))
            for ours, theirs in zip(got, want, strict=True):
                np.testing.assert_allclose(
                    ours, theirs, rtol=2e-5, atol=1e-6, err_msg=f"{name}, {mesh}, {how}"
                )
