"""DTensors on two ranks: errors that all of them raise, and plain tensors beside."""

from __future__ import annotations

from spread import run


def test_meshes() -> None:
    said = run("gloo", 2, "spread_mesh.py", timeout=100)
    assert [out.strip() for out in said] == ["held"] * 2
