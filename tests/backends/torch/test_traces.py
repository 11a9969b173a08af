"""What PyTorch records of a call: no value of it, and no size, is kept as a constant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import xloss
from nightly import core

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own

X = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 0.0], [1.0, 0.0, 0.0], [0.5, 0.0, 1.0]])
Y, P, W = torch.tensor([0, 1, 2, 1]), X.softmax(-1), torch.tensor([[1.0, 2.0, 0.0]]) * X[:, :1]

CALLS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "cross_entropy": (xloss.cross_entropy, (X, Y)),
    "nll_loss": (xloss.nll_loss, (X.log_softmax(-1), Y)),
    "log_loss": (xloss.log_loss, (P, Y)),
    "focal_loss": (xloss.focal_loss, (X, P)),
    "binary_cross_entropy_with_logits": (xloss.binary_cross_entropy_with_logits, (X, P)),
    "binary_cross_entropy": (xloss.binary_cross_entropy, (P, P.flip(0))),
    "sigmoid_focal_loss": (xloss.sigmoid_focal_loss, (X, P)),
    "kl_div": (xloss.kl_div, (X.log_softmax(-1), P.flip(0))),
    "entropy": (xloss.entropy, (X,)),
    "logsumexp": (xloss.logsumexp, (X,)),
    "softmax": (xloss.softmax, (X,)),
    "log_softmax": (xloss.log_softmax, (X,)),
    "linear_cross_entropy": (xloss.linear_cross_entropy, (X, W, Y)),
    "one_hot": (lambda y: xloss.one_hot(y, 3), (Y,)),
    "smooth_labels": (lambda p: xloss.smooth_labels(p, 0.1), (P,)),
    "l2_penalty": (lambda x: xloss.l2_penalty(x, strength=2.0), (X,)),
    "effective_count": (lambda y, s: xloss.effective_count(y, sample_weight=s), (Y, P[:, 0])),
    "gradient": (lambda x, y: xloss.value_and_grad(xloss.cross_entropy)(x, y)[1], (X, Y)),
    "linear gradient": (
        lambda x, w, y: xloss.value_and_grad(xloss.linear_cross_entropy, 1)(x, w, y)[1],
        (X, W, Y),
    ),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("name", CALLS)
def test_jit_trace_is_refused(name: str) -> None:
    """Its sizes are tensors, and what is computed by NumPy's views is a constant to it."""
    function, given = CALLS[name]
    with pytest.raises(RuntimeError, match=r"^torch\.jit\.trace would keep .* torch\.export or"):
        torch.jit.trace(function, given)


@pytest.mark.parametrize("mode", core(["real", "fake", "symbolic"], lambda mode: mode != "fake"))
@pytest.mark.parametrize("name", CALLS)
def test_make_fx_records_operations(name: str, mode: str) -> None:
    """On other values, and where sizes are symbols on other sizes, the graph is the function."""
    from torch.fx.experimental.proxy_tensor import make_fx

    function, given = CALLS[name]
    traced = make_fx(lambda *a: function(*a), tracing_mode=mode)(*given)
    other = tuple(a.flip(0) for a in given)
    if mode == "symbolic":
        other = tuple(a if a is W else torch.cat([a, a[:2]]) for a in other)
    torch.testing.assert_close(traced(*other), function(*other), rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize(
    "name", ["cross_entropy", "logsumexp", "log_softmax", "linear_cross_entropy"]
)
def test_functionalize(name: str) -> None:
    """It takes no autograd.Function: plain operations, with a first derivative."""
    from torch.func import functionalize, grad, jvp

    function, (x, *rest) = CALLS[name]

    def loss(x: Any) -> Any:
        return (function(x, *rest) ** 2).sum()

    torch.testing.assert_close(functionalize(loss)(x), loss(x))
    for got in (functionalize(grad(loss)), grad(functionalize(loss))):
        torch.testing.assert_close(got(x), grad(loss)(x), rtol=2e-6, atol=1e-6)
    for got in (functionalize(loss), loss):
        torch.testing.assert_close(
            jvp(got, (x,), (x,))[1], (grad(loss)(x) * x).sum(), rtol=2e-6, atol=1e-6
        )
    with pytest.raises(RuntimeError, match=r"^torch\.func\.functionalize follows a first"):
        functionalize(grad(lambda x: grad(loss)(x).sum()))(x)
