"""Lengths under torch.compile and torch.export: one graph for all of them, counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import xloss
from nightly import core
from torch_cases import CASES, SIZES, labels, logits, same, torch
from xloss.engines.cpu import engine as cpu

# By day one of each kind: arrays beside the logits, another axis, products, gradients, no float.
GUESSED = (
    "cross_entropy with weights",
    "cross_entropy along axis 1",
    "one sample_weight for all",
    "binary",
    "one_hot",
    "linear with a bias",
    "gradients",
)
by_night = pytest.mark.parametrize("name", core(CASES, lambda name: name in GUESSED))


def differing(make: Callable[..., Any]) -> list[list[int]]:
    """Return the axes of each array that have another length in another size."""
    pairs = zip(make(*SIZES[0]), make(*SIZES[1]), strict=True)
    return [[i for i, n in enumerate(a.shape) if n != b.shape[i]] for a, b in pairs]


def served(name: str, unbacked: bool = False, **how: Any) -> int:
    """Call a compiled function with every size, what it records too; return its graphs' number."""
    from torch._dynamo.testing import CompileCounterWithBackend

    function, make = CASES[name]
    counted = CompileCounterWithBackend("eager")
    compiled = torch.compile(function, fullgraph=True, backend=counted, **how)
    for size in SIZES:
        given = make(*size)
        if given[0].is_floating_point():
            given[0].requires_grad_()
        for a, axes in zip(given, differing(make) if unbacked else [], strict=unbacked):
            for i in axes:
                torch._dynamo.decorators.mark_unbacked(a, i)
        same(compiled(*given), function(*given))
    return int(counted.frame_count)


@pytest.mark.parametrize("dynamic", [None, True])
@pytest.mark.parametrize(
    "name", ["cross_entropy", "linear", "one sample_weight for all", "binary", "linear with a bias"]
)
def test_graphs_that_serve_all_lengths(name: str, dynamic: bool | None) -> None:
    """Left to itself, the compiler makes a second graph when it sees a second length."""
    assert served(name, dynamic=dynamic) == (1 if dynamic else 2)


@by_night
def test_lengths_that_no_compiler_may_guess(name: str) -> None:
    """Marked as unbacked: nothing may be decided by them, and one graph serves all."""
    assert served(name, unbacked=True) == 1


class Module(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
    """A function as torch.export takes it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *given: Any) -> Any:
        return self.function(*given)


@by_night
def test_exported_lengths_are_not_fixed(name: str) -> None:
    """What torch.export and the exporters on it, as ONNX's, write serves every length."""
    function, make = CASES[name]
    # An error where a length is fixed.
    shapes = tuple(dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for axes in differing(make))
    program = torch.export.export(
        Module(function), make(*SIZES[0]), dynamic_shapes=(shapes,), strict=False
    )
    given = make(*SIZES[1])
    same(program.module()(*given), function(*given))


def test_a_wrong_length_is_refused_when_it_runs() -> None:
    """A length that nobody knew while tracing is compared when it comes."""
    z, y = logits(5, 7), labels(5, 7)
    for a in (z, y):
        torch._dynamo.decorators.mark_unbacked(a, 0)
    compiled = torch.compile(xloss.cross_entropy, fullgraph=True, backend="eager")
    same(compiled(z, y), xloss.cross_entropy(z, y))
    other = labels(6, 7)
    torch._dynamo.decorators.mark_unbacked(other, 0)
    # Dynamo's own, of a guard; not a value.
    with pytest.raises(AssertionError, match=r"size\(\)\[0\] == "):
        compiled(z, other)


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")  # inductor's own
@pytest.mark.parametrize(
    ("backend", "dynamic", "classes", "engine"),
    [
        ("inductor", True, 5, "cpu"),
        ("aot_eager", None, 150, "cpu"),
        ("aot_eager", None, 5, "none"),
    ],
)
def test_backward_of_other_lengths(
    backend: str, dynamic: Any, classes: int, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph of the gradient is as general as that of the value, of an engine and of none."""
    from torch._dynamo.testing import CompileCounterWithBackend

    if engine == "none":
        monkeypatch.setattr(cpu, "unavailable", lambda: "not here")
    counted = CompileCounterWithBackend(backend)
    compiled = torch.compile(xloss.cross_entropy, fullgraph=True, backend=counted, dynamic=dynamic)
    graphs = []
    for n in (4, 6, 9, 13):
        z, y = logits(n, classes).requires_grad_(), labels(n, classes)
        compiled(z, y).backward()
        same(z.grad, xloss.value_and_grad(xloss.cross_entropy)(z.detach(), y)[1])
        graphs.append(counted.frame_count)
    # With dynamic=True the compiler may trace the first call twice, to make constants of options.
    assert graphs == ([graphs[0]] * 4 if dynamic else [1, 2, 2, 2])
