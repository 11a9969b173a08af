"""DTensors, autograd's questions, and JAX's derivatives and sharded arrays, on several ranks."""

from __future__ import annotations

import pytest

from nightly import core
from spread import run


@pytest.mark.parametrize(
    ("ranks", "what"),
    core([(4, "dtensors"), (1, "dtensors"), (3, "autograd")], lambda ranks, what: ranks < 4),
)
def test_torch(ranks: int, what: str) -> None:
    said = run("gloo", ranks, "spread_torch.py", what)
    assert [out.strip() for out in said] == ["held"] * ranks


def test_jax() -> None:
    assert run("jax", 4, "spread_jax.py")[0].strip() == "held"


def test_meshes() -> None:
    """Errors that two ranks raise together, and plain tensors beside."""
    said = run("gloo", 2, "spread_mesh.py", timeout=100)
    assert [out.strip() for out in said] == ["held"] * 2
