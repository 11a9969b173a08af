"""Every function of xloss on PyTorch tensors of n rows and c classes: to trace and to compile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import xloss

torch = pytest.importorskip("torch", reason="pip install 'xloss[torch]'")

SIZES = [(4, 7), (6, 8), (9, 11), (13, 17)]  # no length equals another: those a compiler would tie


def logits(n: int, c: int) -> Any:
    return torch.randn(n, c, generator=torch.Generator().manual_seed(n * c))


def logs(n: int, c: int) -> Any:
    return logits(n, c).log_softmax(-1)


def probs(n: int, c: int) -> Any:
    return logits(n, c).softmax(-1)


def labels(n: int, c: int) -> Any:
    return torch.arange(n) % c


def row(n: int) -> Any:
    return torch.linspace(0.0, 2.0, n)


def bend(x: Any, t: Any, **options: Any) -> Any:
    return xloss.cross_entropy(x, t, label_smoothing=0.1, z_loss=0.1, softcap=5.0, **options)


def listed(x: Any, i: Any, p: Any) -> Any:
    return xloss.cross_entropy(x, xloss.TopKTargets(i, p, "uniform"), label_smoothing=0.125)


def slots(n: int, c: int) -> Any:
    """Three classes a row, one of them twice, and an empty slot in the first."""
    made = (labels(n, c)[:, None] + torch.tensor([0, 1, 1])) % c
    made[0, 2] = -100
    return made


def both(loss: Any, **options: Any) -> Callable[..., Any]:
    """Return what computes a loss's value and its gradient to both arguments."""
    return lambda *a: xloss.value_and_grad(loss, (0, 1))(*a, **options)


Case = tuple[Callable[..., Any], Callable[[int, int], tuple[Any, ...]]]
CASES: dict[str, Case] = {
    "cross_entropy": (xloss.cross_entropy, lambda n, c: (logits(n, c), labels(n, c))),
    "cross_entropy of many classes": (
        xloss.cross_entropy,
        lambda n, c: (logits(n, 150), labels(n, 150)),
    ),
    "cross_entropy of soft targets": (bend, lambda n, c: (logits(n, c), probs(n, c))),
    "cross_entropy with weights": (
        lambda x, y, w, s, m: bend(x, y, weight=w, sample_weight=s, where=m),
        lambda n, c: (logits(n, c), labels(n, c), row(c), row(n), row(n) > 0.5),
    ),
    "cross_entropy along axis 1": (
        lambda x, y: xloss.cross_entropy(x, y, axis=1),
        lambda n, c: (logits(n, 3 * c).reshape(n, c, 3), labels(3 * n, c).reshape(n, 3)),
    ),
    "one sample_weight for all": (
        lambda x, y, s: xloss.cross_entropy(x, y, sample_weight=s, normalizer=x.shape[0] / 2),
        lambda n, c: (logits(n, c), labels(n, c), torch.full((1,), 0.5)),
    ),
    "few classes": (listed, lambda n, c: (logits(n, c), slots(n, c), probs(n, 3) / 2)),
    "nll_loss": (xloss.nll_loss, lambda n, c: (logs(n, c), probs(n, c))),
    "log_loss": (xloss.log_loss, lambda n, c: (probs(n, c), labels(n, c))),
    "focal_loss": (xloss.focal_loss, lambda n, c: (logits(n, c), probs(n, c))),
    "binary": (
        lambda x, y, p: xloss.binary_cross_entropy_with_logits(
            x, y, pos_weight=p, normalizer=x.shape[0]
        ),
        lambda n, c: (logits(n, c), probs(n, c), row(c)),
    ),
    "binary_cross_entropy": (xloss.binary_cross_entropy, lambda n, c: (probs(n, c), probs(n, c))),
    "sigmoid_focal_loss": (xloss.sigmoid_focal_loss, lambda n, c: (logits(n, c), probs(n, c))),
    "kl_div": (xloss.kl_div, lambda n, c: (logs(n, c), probs(n, c).flip(0))),
    "entropy": (xloss.entropy, lambda n, c: (logits(n, c),)),
    "logsumexp": (
        lambda x: xloss.logsumexp(x, axis=0, keepdims=True),
        lambda n, c: (logits(n, c),),
    ),
    "softmax": (xloss.softmax, lambda n, c: (logits(n, c),)),
    "log_softmax": (xloss.log_softmax, lambda n, c: (logits(n, c),)),
    "smooth_labels": (
        lambda t, m: xloss.smooth_labels(t, 0.1, where=m),
        lambda n, c: (probs(n, c), logits(n, c) > -1),
    ),
    "one_hot": (lambda y: xloss.one_hot(y, 13), lambda n, c: (labels(n, 13),)),
    "effective_count": (
        lambda y, w: xloss.effective_count(y, weight=w),
        lambda n, c: (labels(n, c), row(c)),
    ),
    "l2_penalty": (lambda x: xloss.l2_penalty(x, strength=2.0), lambda n, c: (logits(n, c),)),
    "linear": (
        xloss.linear_cross_entropy,
        lambda n, c: (logits(n, 5), logits(c, 5), labels(n, c)),
    ),
    "linear with a bias": (
        lambda x, w, y, b: xloss.linear_cross_entropy(x, w, y, bias=b, normalizer=x.shape[0]),
        lambda n, c: (logits(n, 5), logits(c, 5), labels(n, c), row(c)),
    ),
    "linear, n features": (
        xloss.linear_cross_entropy,
        lambda n, c: (logits(6, n), logits(c, n), labels(6, c)),
    ),
    "linear of few classes": (
        lambda x, w, i, p: xloss.linear_cross_entropy(x, w, xloss.TopKTargets(i, p)),
        lambda n, c: (logits(n, 5), logits(c, 5), slots(n, c), probs(n, 3)),
    ),
    "gradients": (both(xloss.cross_entropy), lambda n, c: (logits(n, c), probs(n, c))),
    "linear gradients": (
        both(xloss.linear_cross_entropy),
        lambda n, c: (logits(n, 5), logits(c, 5), labels(n, c)),
    ),
    "linear gradients of each row": (
        lambda x, w, y, up: both(xloss.linear_cross_entropy, reduction="none", cotangent=up)(
            x, w, y
        ),
        lambda n, c: (logits(n, 5), logits(c, 5), labels(n, c), row(n)),
    ),
}


# The arguments of a case that have a gradient.
GRADIENTS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("cross_entropy", "cross_entropy with weights", "log_loss", "entropy"), (0,)),
    **dict.fromkeys(("logsumexp", "softmax", "log_softmax"), (0,)),
    **dict.fromkeys(("cross_entropy of soft targets", "nll_loss", "focal_loss", "binary"), (0, 1)),
    **dict.fromkeys(("binary_cross_entropy", "sigmoid_focal_loss", "kl_div", "linear"), (0, 1)),
    "few classes": (0, 2),
    "linear with a bias": (0, 1, 3),
    "linear of few classes": (0, 1, 3),
}


def of_leaves(name: str, n: int = 3, c: int = 4) -> tuple[Callable[..., Any], list[Any]]:
    """Return a case as a function of the arrays that have a gradient, and those, in float64."""
    function, make = CASES[name]
    given = [a.double() if a.is_floating_point() else a for a in make(n, c)]

    def of(*leaves: Any) -> Any:
        arguments = dict(enumerate(given)) | dict(zip(GRADIENTS[name], leaves, strict=True))
        return function(*arguments.values())

    return of, [given[i] for i in GRADIENTS[name]]


def same(got: Any, want: Any) -> None:
    torch.testing.assert_close(got, want, rtol=2e-6, atol=1e-6)


def compiled(function: Callable[..., Any], backend: Any = "aot_eager", **how: Any) -> Any:
    return torch.compile(function, fullgraph=True, backend=backend, **how)


def graphs(function: Callable[..., Any], *given: Any) -> list[Any]:
    """Return the graphs of a compiled function and of its gradient, as a compiler is given them."""
    from functorch.compile import make_boxed_func, min_cut_rematerialization_partition
    from torch._dynamo.backends.common import aot_autograd

    found: list[Any] = []

    def look(graph: Any, _: Any) -> Any:
        found.append(graph.graph)
        return make_boxed_func(graph.forward)

    cut = min_cut_rematerialization_partition
    backend = aot_autograd(fw_compiler=look, bw_compiler=look, partition_fn=cut)
    compiled(function, backend)(*given).backward()
    return found
