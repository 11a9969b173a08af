"""torch.compile(fullgraph=True): no graph break, no warning, the tail kept in the gradient."""

from __future__ import annotations

from typing import Any

import pytest

import xloss
from fresh import said

torch = pytest.importorskip("torch")

FRESH = """
import warnings
warnings.simplefilter("error")
warnings.filterwarnings("ignore", message="`torch.jit.script")  # inductor's own import
import torch, xloss
z = torch.tensor([[0.0, -17.0, -18.0], [1.0, 2.0, 3.0]], requires_grad=True)
y = torch.tensor([0, 2])
loss = torch.compile(lambda z, y: xloss.cross_entropy(z, y), fullgraph=True)
value = loss(z, y)
value.backward()
want, grad = xloss.value_and_grad(xloss.cross_entropy)(z, y)
torch.testing.assert_close(value, want, rtol=5e-7, atol=0)
torch.testing.assert_close(z.grad, grad, rtol=1e-6, atol=0)
x, w = torch.ones(4, 3, requires_grad=True), torch.ones(5, 3, requires_grad=True)
y = torch.tensor([0, 1, 2, 9])
loss = torch.compile(lambda x, w, y: xloss.linear_cross_entropy(x, w, y), fullgraph=True)
assert torch.isnan(loss(x, w, y))
loss(x, w, y % 5).backward()
want = torch.autograd.grad(xloss.linear_cross_entropy(x, w, y % 5), (x, w))
torch.testing.assert_close((x.grad, w.grad), want)
print("compiled")
"""


def test_first_calls_in_a_fresh_process_are_compiled() -> None:
    """With warnings as errors, and nothing of xloss warm: what a training script does."""
    assert said(FRESH) == "compiled"


EAGER = """
import sys
import torch, xloss
z = torch.tensor([[0.0, -17.0, -18.0], [1.0, 2.0, 3.0]], requires_grad=True)
xloss.cross_entropy(z, torch.tensor([0, 2])).backward()
print("torch._dynamo" in sys.modules)
"""


def test_a_first_call_that_is_not_compiled_imports_no_compiler() -> None:
    """Importing it takes a second, more than PyTorch itself."""
    assert said(EAGER) == "False"


CALLS: dict[str, dict[str, Any]] = {
    "cross_entropy": {"label_smoothing": 0.1, "z_loss": 0.01, "softcap": 9.0},
    "focal_loss": {"gamma": 1.5},
    "nll_loss": {},
    "log_loss": {},
    "binary_cross_entropy_with_logits": {},
    "binary_cross_entropy": {},
    "sigmoid_focal_loss": {"alpha": 0.25},
    "kl_div": {},
}


def data(name: str) -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(5, 4, generator=generator)
    t = torch.randn(5, 4, generator=generator).softmax(-1)
    if name in ("nll_loss", "kl_div"):
        z = z.log_softmax(-1)
    elif name in ("log_loss", "binary_cross_entropy"):
        z = z.softmax(-1)
    return z.requires_grad_(), t.requires_grad_()


@pytest.mark.parametrize("name", CALLS)
def test_compiled_equals_eager(name: str) -> None:
    """Value and both gradients of every loss, traced whole (backend: ahead-of-time autograd)."""
    loss = getattr(xloss, name)
    x, t = data(name)
    traced = torch.compile(
        lambda a, b: loss(a, b, **CALLS[name]), fullgraph=True, backend="aot_eager"
    )
    got = traced(x, t)
    got.backward()
    value, (g, h) = xloss.value_and_grad(loss, (0, 1))(x, t, **CALLS[name])
    torch.testing.assert_close(got, value, rtol=5e-7, atol=0)
    torch.testing.assert_close(x.grad, g, rtol=2e-6, atol=1e-8)
    torch.testing.assert_close(t.grad, h, rtol=2e-6, atol=1e-7)


def test_infinities_in_a_compiled_call() -> None:
    """A masked class has gradient 0, and an infinite loss its infinite gradient."""
    z = torch.tensor([[0.0, -torch.inf, 1.0]], requires_grad=True)
    traced = torch.compile(xloss.cross_entropy, fullgraph=True, backend="aot_eager")
    traced(z, torch.tensor([2])).backward()
    assert z.grad[0, 1] == 0
    assert bool(torch.isfinite(z.grad).all())
    p = torch.tensor([[0.0, 1.0]], requires_grad=True)
    value = torch.compile(xloss.log_loss, fullgraph=True, backend="aot_eager")(p, torch.tensor([0]))
    value.backward()
    assert value == torch.inf
    assert p.grad.tolist() == [[-torch.inf, 0.0]]
