"""DTensors, autograd's questions, and JAX's derivatives and sharded arrays, on several ranks.

ffi_devices: rows spread over devices stay there, compiled engine or not. mesh_jax: axes of type
Explicit, the default of jax.make_mesh.
"""

from __future__ import annotations

from importlib import import_module

import pytest

from nightly import core
from spread import run

RUNS = [
    ("gloo", 4, "spread_dtensor", "dtensors"),
    ("gloo", 2, "spread_dtensor", "dtensors"),
    ("gloo", 3, "spread_torch", "autograd"),
    ("jax", 4, "spread_jax", "derivatives"),
    ("jax", 4, "ffi_devices", "stays_there"),
    ("jax", 4, "mesh_jax", "every_loss"),
]
BY_NIGHT = (RUNS[0], RUNS[-1])


@pytest.mark.parametrize(
    ("kind", "ranks", "file", "what"), core(RUNS, lambda *run: run not in BY_NIGHT)
)
def test_on_ranks(kind: str, ranks: int, file: str, what: str) -> None:
    run(kind, ranks, getattr(import_module(file), what), timeout=500)
