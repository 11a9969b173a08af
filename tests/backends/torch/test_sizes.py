"""Lengths under torch.compile and torch.export: one graph for all of them, counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import xloss
from nightly import core
from torch_cases import CASES, SIZES, compiled, labels, logits, same, torch
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


def served(name: str, unbacked: bool = False, backend: str = "eager", **how: Any) -> list[int]:
    """Call a compiled function with every size, backward too; return how many graphs there were."""
    from torch._dynamo.testing import CompileCounterWithBackend

    function, make = CASES[name]
    counted = CompileCounterWithBackend(backend)
    got, graphs = compiled(function, counted, **how), []
    for size in SIZES:
        given = make(*size)
        leaf = given[0]
        if leaf.is_floating_point():
            leaf.requires_grad_()
        for a, axes in zip(given, differing(make) if unbacked else [], strict=unbacked):
            for i in axes:
                torch._dynamo.decorators.mark_unbacked(a, i)
        mine, want = got(*given), function(*given)
        same(mine, want)
        if torch.is_tensor(want) and want.requires_grad and backend != "eager":
            same(*(torch.autograd.grad(value.sum(), leaf) for value in (mine, want)))
        graphs.append(counted.frame_count)
    return graphs


ANY = ["cross_entropy", "linear", "one sample_weight for all", "binary", "linear with a bias"]


@pytest.mark.parametrize("dynamic", [None, True])
@pytest.mark.parametrize("name", ANY)
def test_graphs_that_serve_all_lengths(name: str, dynamic: bool | None) -> None:
    """Left to itself, the compiler makes a second graph when it sees a second length."""
    assert served(name, dynamic=dynamic) == ([1] * 4 if dynamic else [1, 2, 2, 2])


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")  # inductor's own
@pytest.mark.parametrize(
    ("name", "backend", "engine"),
    [
        ("cross_entropy", "inductor", True),
        ("cross_entropy", "aot_eager", False),
        ("cross_entropy of many classes", "aot_eager", True),
    ],
)
def test_backward_of_other_lengths(
    name: str, backend: str, engine: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph of the gradient is as general as that of the value, of an engine and of none."""
    if not engine:
        monkeypatch.setattr(cpu, "unavailable", lambda: "not here")
    # The compiler may trace the first call twice, to make constants of options.
    assert len(set(served(name, backend=backend, dynamic=True))) == 1


@by_night
def test_lengths_that_no_compiler_may_guess(name: str) -> None:
    """Marked as unbacked: nothing may be decided by them, and one graph serves all."""
    assert set(served(name, unbacked=True)) == {1}


class Module(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
    """A function as torch.export takes it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *given: Any) -> Any:
        return self.function(*given)


@by_night
def test_exported_lengths_are_not_fixed(name: str) -> None:
    """What torch.export and the exporters on it, as ONNX's, write serves every length.

    But for linear losses it is of PyTorch's own operations, to run where xloss is missing.
    """
    function, make = CASES[name]
    # An error where a length is fixed.
    shapes = tuple(dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for axes in differing(make))
    program = torch.export.export(
        Module(function), make(*SIZES[0]), dynamic_shapes=(shapes,), strict="weights" in name
    )
    assert "linear" in name or "xloss" not in str(program.graph)
    given = make(*SIZES[1])
    same(program.module()(*given), function(*given))


def test_a_wrong_length_is_refused_when_it_runs() -> None:
    """A length that nobody knew while tracing is compared when it comes."""
    z, y = logits(5, 7), labels(5, 7)
    for a in (z, y):
        torch._dynamo.decorators.mark_unbacked(a, 0)
    got = compiled(xloss.cross_entropy, "eager")
    same(got(z, y), xloss.cross_entropy(z, y))
    other = labels(6, 7)
    torch._dynamo.decorators.mark_unbacked(other, 0)
    # Dynamo's own, of a guard; not a value.
    with pytest.raises(AssertionError, match=r"size\(\)\[0\] == "):
        got(z, other)
