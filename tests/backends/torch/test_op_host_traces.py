"""Where the host's operation runs and where plain operations do; what a cache on disk keeps."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

import xloss
from nightly import core
from xloss.engines.cpu import engine as cpu

torch = pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
pytest.importorskip("numba", reason="the engine is Numba's: pip install 'xloss[fast]'")
torch_op = pytest.importorskip("xloss.backends.torch.custom_op")
torch_op_host = pytest.importorskip("xloss.backends.torch.custom_op_host")

B, N = 3, 7


def operations(function: Callable[..., Any], *given: Any) -> list[str]:
    """Return the engine's operations in the graph that a function is compiled to."""
    seen: list[str] = []

    def look(graph: Any, _: Any) -> Any:
        seen.extend(str(n.target) for n in graph.graph.nodes if "xloss.host" in str(n.target))
        return graph.forward

    torch.compile(function, fullgraph=True, backend=look)(*given)
    return seen


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
    function, expected = MAPPED[name]
    z, y = data()
    got = torch.compile(function, fullgraph=True, backend="aot_eager")
    made = got(z, y)
    assert len(wanted["cpu"]) == expected
    (mine,) = torch.autograd.grad(made.sum(), z)
    assert len(wanted["cpu"]) == 2 * expected
    want = function(z, y)
    torch.testing.assert_close(made, want, rtol=2e-7, atol=0)
    (slope,) = torch.autograd.grad(want.sum(), z)
    torch.testing.assert_close(mine, slope, rtol=5e-7, atol=1e-9)


def test_vmap_of_the_closed_form(wanted: dict[str, list[Any]]) -> None:
    def both(z: Any, y: Any) -> Any:
        return xloss.value_and_grad(xloss.cross_entropy)(z, y)

    z, y = data()
    got = torch.compile(torch.vmap(both), fullgraph=True, backend="aot_eager")(z.detach(), y)
    assert len(wanted["cpu"]) == B
    for i in range(B):
        for mine, want in zip(got, both(z[i].detach(), y[i]), strict=True):
            assert torch.equal(mine[i], want)


@pytest.mark.parametrize("classes", [5, 150])
def test_activation_checkpointing(classes: int) -> None:
    """Inside the compiled function, and around it."""
    from torch.utils.checkpoint import checkpoint

    z, y = data(classes)

    def inside(z: Any) -> Any:
        return checkpoint(lambda a: xloss.cross_entropy(torch.sin(a), y), z, use_reentrant=False)

    (want,) = torch.autograd.grad(xloss.cross_entropy(torch.sin(z), y), z)
    got = torch.compile(inside, fullgraph=True, backend="aot_eager")(z)
    torch.testing.assert_close(torch.autograd.grad(got, z)[0], want, rtol=5e-7, atol=1e-9)
    body = torch.compile(
        lambda a: xloss.cross_entropy(torch.sin(a), y), fullgraph=True, backend="aot_eager"
    )
    around = checkpoint(body, z, use_reentrant=False)
    torch.testing.assert_close(torch.autograd.grad(around, z)[0], want, rtol=5e-7, atol=1e-9)


def test_what_is_left_to_plain_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other losses, soft targets that want a gradient, labels of another width; no engine here.

    An operation has no rule of torch.func's derivatives either.
    """
    z, y = data()
    soft = z.detach().softmax(-1)
    assert operations(xloss.cross_entropy, z, y) == ["xloss.host_cross_entropy.default"]
    assert len(operations(xloss.cross_entropy, z, soft)) == 1
    assert operations(xloss.focal_loss, z, y) == []
    assert operations(torch.func.grad(lambda z: xloss.cross_entropy(z, y)), z.detach()) == []
    assert operations(xloss.cross_entropy, z, soft.requires_grad_()) == []
    with torch.no_grad():
        assert len(operations(xloss.cross_entropy, z, soft)) == 1
    wide = y.to(torch.uint64)
    assert len(operations(xloss.cross_entropy, z, wide)) == 1
    assert operations(lambda z: xloss.cross_entropy(z, wide, ignore_index=2**64 - 100), z) == []
    both = xloss.value_and_grad(xloss.cross_entropy, (0, 1))
    assert operations(both, z, soft.detach()) == []
    assert len(operations(xloss.value_and_grad(xloss.cross_entropy), z, y)) == 1
    monkeypatch.setattr(cpu, "unavailable", lambda: "no Numba")
    assert operations(xloss.cross_entropy, z, y) == []


def test_an_engine_asked_for(wanted: dict[str, list[Any]]) -> None:
    """What is compiled under use_engine holds plain operations; what runs under it obeys."""
    z, y = data()
    with xloss.use_engine("generic"):
        assert operations(xloss.cross_entropy, z, y) == []
    got = torch.compile(xloss.cross_entropy, fullgraph=True, backend="aot_eager")
    want = got(z, y)
    assert len(wanted["cpu"]) == 1
    with xloss.use_engine("generic"):
        torch.testing.assert_close(got(z, y), want, rtol=2e-7, atol=0)
    assert len(wanted["cpu"]) == 1
    with xloss.use_engine("cpu"):
        assert torch.equal(got(z, y), want)
    with xloss.use_engine("cuda"), pytest.raises(xloss.EngineUnavailable, match=r"^engine 'cuda'"):
        got(z, y)


@pytest.mark.parametrize(
    ("gpu", "strict"),
    core(product((False, True), repeat=2), lambda gpu, strict: gpu == strict),
)
def test_an_exported_program_is_of_pytorch_s_operations(
    gpu: bool, strict: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that it runs where xloss is missing; the GPU's operation is left out likewise."""
    if gpu:
        monkeypatch.setattr(torch_op, "DEVICE", "cpu")
        monkeypatch.setattr(torch_op, "_available", lambda: True)
        monkeypatch.setattr(torch_op_host, "takes", lambda call: False)

    class Module(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
        def forward(self, z: Any, y: Any) -> Any:
            return xloss.cross_entropy(z, y)

    z, y = data()
    with torch.no_grad():
        program = torch.export.export(Module(), (z.detach(), y), strict=strict)
    assert not [n for n in program.graph.nodes if "xloss" in str(n.target)]
    torch.testing.assert_close(program.module()(z.detach(), y), xloss.cross_entropy(z.detach(), y))
