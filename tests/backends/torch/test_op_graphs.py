"""Compiled graphs on the host: where the engine's operation runs, and where plain ones do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import xloss
from torch_cases import compiled, graphs, torch
from xloss.engines.cpu import engine as cpu

pytest.importorskip("numba", reason="the engine is Numba's: pip install 'xloss[fast]'")

B, N = 3, 7


def operations(function: Callable[..., Any], *given: Any) -> list[str]:
    """Return the engine's operations in the graph that a function is compiled to."""
    seen: list[str] = []

    def look(graph: Any, _: Any) -> Any:
        seen.extend(str(n.target) for n in graph.graph.nodes if "xloss" in str(n.target))
        return graph.forward

    compiled(function, look)(*given)
    return [name for name in seen if "formula" not in name]


def data(classes: int = 5) -> tuple[Any, Any]:
    z = torch.randn(B, N, classes, generator=torch.Generator().manual_seed(1))
    return z.requires_grad_(), torch.arange(B * N).reshape(B, N) % classes


def test_what_is_left_to_plain_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other losses, soft targets that want a gradient, labels of another width; no engine here.

    An operation has no rule of torch.func's derivatives either.
    """
    z, y = data()
    soft, wide = z.detach().softmax(-1), y.to(torch.uint64)
    assert operations(xloss.cross_entropy, z, wide) == ["xloss.cross_entropy.default"]
    assert len(operations(xloss.value_and_grad(xloss.cross_entropy), z, soft)) == 1
    assert operations(lambda z: xloss.cross_entropy(z, wide, ignore_index=2**64 - 100), z) == []
    assert operations(xloss.focal_loss, z, y) == []
    for transform, x in ((torch.func.grad, z[0].detach()), (torch.func.vmap, z.detach())):
        assert operations(transform(lambda a: xloss.cross_entropy(a, y[0])), x) == []
    assert operations(xloss.value_and_grad(xloss.cross_entropy, (0, 1)), z, soft) == []
    assert operations(xloss.cross_entropy, z, soft.requires_grad_()) == []
    with torch.no_grad():
        assert len(operations(xloss.cross_entropy, z, soft)) == 1
    monkeypatch.setattr(cpu, "unavailable", lambda: "no Numba")
    assert operations(xloss.cross_entropy, z, y) == []


def test_an_engine_asked_for(wanted: dict[str, list[Any]]) -> None:
    """What is compiled under use_engine holds plain operations; what runs under it obeys."""
    z, y = data()
    with xloss.use_engine("generic"):
        assert operations(xloss.cross_entropy, z, y) == []
    got = compiled(xloss.cross_entropy)
    want = got(z, y)
    assert len(wanted["cpu"]) == 1
    with xloss.use_engine("generic"):
        torch.testing.assert_close(got(z, y), want, rtol=2e-7, atol=0)
    assert len(wanted["cpu"]) == 1
    with xloss.use_engine("cpu"):
        assert torch.equal(got(z, y), want)
    with xloss.use_engine("cuda"), pytest.raises(xloss.EngineUnavailable, match=r"^engine 'cuda'"):
        got(z, y)


# ---- Where no compiled engine is -----------------------------------------------------------------


@pytest.mark.usefixtures("_no_engine")
def test_the_formula_keeps_nothing_of_the_logits_size_for_backward() -> None:
    """What the value's graph hands over is the arguments and a few numbers a row, no operation."""
    z, y = data(50)
    seen = graphs(xloss.cross_entropy, z, y)
    assert not [n for graph in seen for n in graph.nodes if "xloss" in str(n.target)]
    arguments = [n for n in seen[0].nodes if n.op == "placeholder"]
    (output,) = (n for n in seen[0].nodes if n.op == "output")
    kept = [n for n in output.args[0] if n is not None and n not in arguments]
    assert max(n.meta["val"].numel() for n in kept) < z.numel()


@pytest.mark.usefixtures("_no_engine")
def test_a_second_derivative_of_the_formula_is_an_error() -> None:
    """Of a graph that autograd itself follows, which the backend "eager" leaves."""
    z, y = data(50)
    loss = compiled(xloss.cross_entropy, "eager")(z, y)
    with pytest.raises(RuntimeError, match=r"^torch\.compile follows a first derivative"):
        torch.autograd.grad(loss, z, create_graph=True)
