"""What PyTorch records of a call: no value of it, and no size, is kept as a constant."""

from __future__ import annotations

from typing import Any

import pytest

from nightly import core
from torch_cases import CASES, same, torch

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("name", CASES)
def test_jit_trace_is_refused(name: str) -> None:
    """Its sizes are tensors, and what is computed by NumPy's views is a constant to it."""
    function, make = CASES[name]
    with pytest.raises(RuntimeError, match=r"^torch\.jit\.trace would keep .* torch\.export or"):
        torch.jit.trace(function, make(4, 7))


@pytest.mark.parametrize("mode", core(["real", "fake", "symbolic"], lambda mode: mode != "fake"))
@pytest.mark.parametrize("name", CASES)
def test_make_fx_records_operations(name: str, mode: str) -> None:
    """On other values, and where sizes are symbols on other sizes, the graph is the function."""
    from torch.fx.experimental.proxy_tensor import make_fx

    function, make = CASES[name]
    given = make(4, 7)
    traced = make_fx(lambda *a: function(*a), tracing_mode=mode)(*given)
    other = make(6, 8) if mode == "symbolic" else tuple(a.flip(0) for a in given)
    same(traced(*other), function(*other))


@pytest.mark.parametrize("name", ["cross_entropy", "logsumexp", "log_softmax", "linear"])
def test_functionalize(name: str) -> None:
    """It takes no autograd.Function: plain operations, with a first derivative."""
    from torch.func import functionalize, grad, jvp

    function, make = CASES[name]
    x, *rest = make(4, 3)

    def loss(x: Any) -> Any:
        return (function(x, *rest) ** 2).sum()

    same(functionalize(loss)(x), loss(x))
    for got in (functionalize(grad(loss)), grad(functionalize(loss))):
        same(got(x), grad(loss)(x))
    for got in (functionalize(loss), loss):
        same(jvp(got, (x,), (x,))[1], (grad(loss)(x) * x).sum())
    with pytest.raises(RuntimeError, match=r"^torch\.func\.functionalize follows a first"):
        functionalize(grad(lambda x: grad(loss)(x).sum()))(x)
