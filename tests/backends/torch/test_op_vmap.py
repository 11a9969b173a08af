"""vmap inside torch.compile: the engine's operation takes the rows of all samples at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import xloss
from torch_cases import compiled, torch

pytest.importorskip("numba", reason="the engine is Numba's: pip install 'xloss[fast]'")

B, N = 3, 7


def data(classes: int = 5) -> tuple[Any, Any]:
    z = torch.randn(B, N, classes, generator=torch.Generator().manual_seed(1))
    return z.requires_grad_(), torch.arange(B * N).reshape(B, N) % classes


WEIGHTS = torch.linspace(0.5, 2.0, B * 5).reshape(B, 5)
# Along another axis, one vmap in another, and where one launch is not enough.
MAPPED: dict[str, tuple[Callable[..., Any], int]] = {
    "another axis": (lambda z, y: torch.vmap(xloss.cross_entropy, (1, 1))(z, y), 1),
    "twice": (lambda z, y: torch.vmap(torch.vmap(xloss.cross_entropy))(z, y), 1),
    "class weights": (
        lambda z, y: torch.vmap(lambda a, b, w: xloss.cross_entropy(a, b, weight=w))(z, y, WEIGHTS),
        B,
    ),
    "one target for all": (lambda z, y: torch.vmap(lambda a: xloss.cross_entropy(a, y[0]))(z), 1),
}


@pytest.mark.parametrize("name", MAPPED)
def test_vmap(name: str, wanted: dict[str, list[Any]]) -> None:
    """Rows are rows: one launch, but where class weights differ."""
    function, launches = MAPPED[name]
    z, y = data()
    made = compiled(function)(z, y)
    assert len(wanted["cpu"]) == launches
    (mine,) = torch.autograd.grad(made.sum(), z)
    assert len(wanted["cpu"]) == 2 * launches
    want = function(z, y)
    torch.testing.assert_close(made, want, rtol=2e-7, atol=0)
    (slope,) = torch.autograd.grad(want.sum(), z)
    torch.testing.assert_close(mine, slope, rtol=5e-7, atol=1e-9)


def test_vmap_of_the_closed_form(wanted: dict[str, list[Any]]) -> None:
    def both(z: Any, y: Any) -> Any:
        return xloss.value_and_grad(xloss.cross_entropy)(z, y)

    z, y = data()
    got = compiled(torch.vmap(both))(z.detach(), y)
    assert len(wanted["cpu"]) == B
    for i in range(B):
        for mine, want in zip(got, both(z[i].detach(), y[i]), strict=True):
            assert torch.equal(mine[i], want)
