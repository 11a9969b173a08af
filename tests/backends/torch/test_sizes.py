"""Lengths under torch.compile and torch.export: one graph for all of them, counted."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

import xloss
from nightly import core

torch = pytest.importorskip("torch")

SIZES = [(4, 7), (6, 8), (9, 11)]  # no length equals another: those a compiler would tie


def logits(n: int, c: int) -> Any:
    return torch.randn(n, c, generator=torch.Generator().manual_seed(n * c))


def probs(n: int, c: int) -> Any:
    return logits(n, c).softmax(-1)


def labels(n: int, c: int) -> Any:
    return torch.arange(n) % c


def row(n: int) -> Any:
    return torch.linspace(0.0, 2.0, n)


def weighted(x: Any, y: Any, w: Any, s: Any, m: Any) -> Any:
    return xloss.cross_entropy(
        x, y, weight=w, sample_weight=s, where=m, label_smoothing=0.1, z_loss=0.1, softcap=5.0
    )


def both(loss: Any, **options: Any) -> Callable[..., Any]:
    """Return what computes a loss's value and its gradient to both arguments."""
    return lambda *a: xloss.value_and_grad(loss, (0, 1))(*a, **options)


Case = tuple[Callable[..., Any], Callable[[int, int], tuple[Any, ...]]]
CASES: dict[str, Case] = {
    "cross_entropy": (xloss.cross_entropy, lambda n, c: (logits(n, c), labels(n, c))),
    "cross_entropy recorded": (
        xloss.cross_entropy,
        lambda n, c: (logits(n, c).requires_grad_(), labels(n, c)),
    ),
    "cross_entropy of soft targets": (
        xloss.cross_entropy,
        lambda n, c: (logits(n, c), probs(n, c).requires_grad_()),
    ),
    "cross_entropy with weights": (
        weighted,
        lambda n, c: (logits(n, c), labels(n, c), row(c), row(n), row(n) > 0.5),
    ),
    "cross_entropy along axis 1": (
        lambda x, y: xloss.cross_entropy(x, y, axis=1),
        lambda n, c: (logits(n, 3 * c).reshape(n, c, 3), labels(3 * n, c).reshape(n, 3)),
    ),
    "one sample_weight for all": (
        lambda x, y, s: xloss.cross_entropy(x, y, sample_weight=s),
        lambda n, c: (logits(n, c), labels(n, c), torch.full((1,), 0.5)),
    ),
    "nll_loss": (xloss.nll_loss, lambda n, c: (logits(n, c).log_softmax(-1), labels(n, c))),
    "log_loss": (xloss.log_loss, lambda n, c: (probs(n, c), labels(n, c))),
    "focal_loss": (xloss.focal_loss, lambda n, c: (logits(n, c), probs(n, c))),
    "binary": (
        lambda x, y, p: xloss.binary_cross_entropy_with_logits(x, y, pos_weight=p),
        lambda n, c: (logits(n, c), probs(n, c), row(c)),
    ),
    "binary_cross_entropy": (xloss.binary_cross_entropy, lambda n, c: (probs(n, c), probs(n, c))),
    "sigmoid_focal_loss": (xloss.sigmoid_focal_loss, lambda n, c: (logits(n, c), probs(n, c))),
    "kl_div": (xloss.kl_div, lambda n, c: (logits(n, c).log_softmax(-1), probs(n, c))),
    "entropy": (xloss.entropy, lambda n, c: (logits(n, c),)),
    "logsumexp": (
        lambda x: xloss.logsumexp(x, axis=0, keepdims=True),
        lambda n, c: (logits(n, c),),
    ),
    "softmax": (xloss.softmax, lambda n, c: (logits(n, c).requires_grad_(),)),
    "smooth_labels": (
        lambda t, m: xloss.smooth_labels(t, 0.1, where=m),
        lambda n, c: (probs(n, c), logits(n, c) > -1),
    ),
    "one_hot": (lambda y: xloss.one_hot(y, 13), lambda n, c: (labels(n, 13),)),
    "effective_count": (
        lambda y, w: xloss.effective_count(y, weight=w),
        lambda n, c: (labels(n, c), row(c)),
    ),
    "linear": (
        xloss.linear_cross_entropy,
        lambda n, c: (logits(n, 5), logits(c, 5).requires_grad_(), labels(n, c)),
    ),
    "linear with a bias": (
        lambda x, w, y, b: xloss.linear_cross_entropy(x, w, y, bias=b),
        lambda n, c: (logits(n, 5), logits(c, 5), labels(n, c), row(c)),
    ),
    "linear, n features": (
        xloss.linear_cross_entropy,
        lambda n, c: (logits(6, n), logits(c, n), labels(6, c)),
    ),
    "gradients": (both(xloss.cross_entropy), lambda n, c: (logits(n, c), probs(n, c))),
    "linear gradients": (
        both(xloss.linear_cross_entropy),
        lambda n, c: (logits(n, 5), logits(c, 5), labels(n, c)),
    ),
    "linear gradients of each row": (
        lambda x, w, y, up: xloss.value_and_grad(xloss.linear_cross_entropy, (0, 1))(
            x, w, y, reduction="none", cotangent=up
        ),
        lambda n, c: (logits(n, 5), logits(c, 5), labels(n, c), row(n)),
    ),
}


def same(got: Any, want: Any) -> None:
    torch.testing.assert_close(got, want, rtol=2e-6, atol=1e-6)


class Counted:
    """A backend that counts the graphs it is given."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: Any, _: Any) -> Any:
        self.graphs += 1
        return graph.forward


# All of them by day where they are exported, in a test below.
LEFT_TO_ITSELF = ("cross_entropy recorded", "linear")


@pytest.mark.parametrize(
    ("name", "dynamic"),
    core(
        product(CASES, (None, True)),
        lambda name, dynamic: dynamic is None and name in LEFT_TO_ITSELF,
    ),
)
def test_graphs_that_serve_all_lengths(name: str, dynamic: bool | None) -> None:
    """Left to itself, the compiler makes a second graph when it sees a second length."""
    function, make = CASES[name]
    torch._dynamo.reset()
    counted = Counted()
    compiled = torch.compile(function, fullgraph=True, backend=counted, dynamic=dynamic)
    for size in SIZES:
        given = make(*size)
        same(compiled(*given), function(*given))
    assert counted.graphs == (1 if dynamic else 2)


def differing(one: tuple[Any, ...], other: tuple[Any, ...]) -> list[dict[int, str]]:
    """Name the axes of each array that have another length in the other call."""
    letters: dict[tuple[int, int], str] = {}
    return [
        {
            i: letters.setdefault((m, n), f"d{len(letters)}")
            for i, (m, n) in enumerate(zip(a.shape, b.shape, strict=True))
            if m != n
        }
        for a, b in zip(one, other, strict=True)
    ]


# By day one of each kind: arrays beside the logits, another axis, products, gradients, no float.
GUESSED = (
    "cross_entropy with weights",
    "cross_entropy along axis 1",
    "one sample_weight for all",
    "binary",
    "kl_div",
    "one_hot",
    "linear with a bias",
    "gradients",
)


@pytest.mark.parametrize("name", core(CASES, lambda name: name in GUESSED))
def test_lengths_that_no_compiler_may_guess(name: str) -> None:
    """Marked as unbacked: nothing may be decided by them, and one graph serves all."""
    function, make = CASES[name]
    axes = differing(make(*SIZES[0]), make(*SIZES[1]))
    torch._dynamo.reset()
    counted = Counted()
    compiled = torch.compile(function, fullgraph=True, backend=counted)
    for size in SIZES:
        given = make(*size)
        for a, marked in zip(given, axes, strict=True):
            for i in marked:
                torch._dynamo.decorators.mark_unbacked(a, i)
        same(compiled(*given), function(*given))
    assert counted.graphs == 1


@pytest.mark.parametrize("name", core(CASES, lambda name: name in GUESSED))
def test_exported_lengths_are_not_fixed(name: str) -> None:
    """What torch.export and the exporters on it, as ONNX's, write serves every length."""
    function, make = CASES[name]
    first, second = (tuple(a.detach() for a in make(*size)) for size in SIZES[:2])
    names = [d for axes in differing(first, second) for d in axes.values()]
    lengths = {name: torch.export.Dim(name, min=2, max=1000) for name in names}
    shapes = tuple(
        {i: lengths[name] for i, name in axes.items()} for axes in differing(first, second)
    )

    class Module(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
        pass

    arguments = ", ".join("abcde"[: len(first)])  # a signature of that arity, which export reads
    Module.forward = eval(f"lambda self, {arguments}: f({arguments})", {"f": function})
    torch._dynamo.reset()
    program = torch.export.export(Module(), first, dynamic_shapes=shapes, strict=False)
    same(program.module()(*second), function(*second))


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
    "backend", core(["aot_eager", "inductor"], lambda backend: backend == "inductor")
)
def test_backward_of_other_lengths(backend: str) -> None:
    """The graph of the gradient is as general as that of the value."""
    counted = torch._dynamo.testing.CompileCounterWithBackend(backend)
    torch._dynamo.reset()
    compiled = torch.compile(xloss.cross_entropy, fullgraph=True, backend=counted, dynamic=True)
    graphs = []
    for n, _ in SIZES:
        z, y = logits(n, 7).requires_grad_(), labels(n, 7)
        compiled(z, y).backward()
        same(z.grad, xloss.value_and_grad(xloss.cross_entropy)(z.detach(), y)[1])
        graphs.append(counted.frame_count)
    assert graphs == [graphs[0]] * len(SIZES)


def test_other_calls_in_between_do_not_compile_anew() -> None:
    """A graph depends on nothing that an uncompiled call of another dtype leaves behind."""
    program = """
import numpy as np, torch, xloss
graphs = []
def count(graph, _):
    graphs.append(graph)
    return graph.forward
compiled = torch.compile(xloss.cross_entropy, fullgraph=True, backend=count)
z, y = torch.zeros(2, 3), torch.tensor([0, 2])
compiled(z, y)
xloss.cross_entropy(np.zeros((2, 3)), np.array([0, 2]))
xloss.cross_entropy(z.bfloat16(), y.int())
xloss.cross_entropy(torch.nn.Parameter(z.double()), y.short())
compiled(z, y)
print(len(graphs))
"""
    got = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert got.stdout.strip() == "1", got.stderr[-2000:]


@pytest.mark.parametrize("dynamic", core([None, True], lambda dynamic: dynamic is None))
def test_options_that_a_graph_is_given(dynamic: bool | None) -> None:
    """Numbers are specialised on, as torch's own losses do: right for each, and no error."""

    def loss(z: Any, y: Any, eps: float, ignored: int, gamma: float) -> Any:
        return xloss.focal_loss(z, y, label_smoothing=eps, ignore_index=ignored, gamma=gamma)

    z, y = logits(5, 7), labels(5, 7)
    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="eager", dynamic=dynamic)
    for options in ((0.1, 2, 0.0), (0.2, 3, 1.5), (0.3, -100, 2.0)):
        same(compiled(z, y, *options), loss(z, y, *options))
