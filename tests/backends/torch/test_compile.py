"""torch.compile(fullgraph=True): no graph break, no warning, the tail kept in the gradient."""

from __future__ import annotations

import pytest

import xloss
from fresh import said
from torch_cases import GRADIENTS, of_leaves, torch

FRESH = """
import sys, warnings
warnings.simplefilter("error")
warnings.filterwarnings("ignore", message="`torch.jit.script")  # inductor's own import
import numpy as np, torch, xloss
z = torch.tensor([[0.0, -17.0, -18.0], [1.0, 2.0, 3.0]])
y = torch.tensor([0, 2])
xloss.cross_entropy(z.clone().requires_grad_(), y).backward()
print("not compiled:", "torch._dynamo" not in sys.modules)

graphs = []
def count(graph, _):
    graphs.append(graph)
    return graph.forward
loss = torch.compile(xloss.cross_entropy, fullgraph=True, backend=count)
loss(z, y)
xloss.cross_entropy(z.numpy(), y.numpy())
xloss.cross_entropy(z.bfloat16(), y.int())
xloss.cross_entropy(torch.nn.Parameter(z.double()), y.short())
loss(z, y)
print("graphs:", len(graphs))

z.requires_grad_()
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
"""


def test_first_calls_in_a_fresh_process() -> None:
    """With warnings as errors, and nothing of xloss warm: what a training script does.

    A call that is not compiled imports no compiler, which takes a second. A graph depends on
    nothing that calls of other dtypes leave behind. The first compiled calls are exact.
    """
    assert said(FRESH).splitlines() == ["not compiled: True", "graphs: 1"]


# Tested elsewhere: the operation of the linear loss, and the ops.
BESIDE = ("linear", "linear with a bias", "entropy", "logsumexp", "softmax", "log_softmax")


@pytest.mark.parametrize("name", [name for name in GRADIENTS if name not in BESIDE])
@pytest.mark.usefixtures("_no_engine")
def test_compiled_equals_eager(name: str) -> None:
    """Value and every gradient of every loss, traced whole (backend: ahead-of-time autograd).

    By plain operations: what the compiled engine computes is in test_op_host.
    """
    function, leaves = of_leaves(name, 5, 4)
    leaves = [leaf.float().requires_grad_() for leaf in leaves]
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    got, want = compiled(*leaves), function(*leaves)
    torch.testing.assert_close(got, want, rtol=5e-7, atol=0)
    mine, theirs = (torch.autograd.grad(value, leaves) for value in (got, want))
    torch.testing.assert_close(mine, theirs, rtol=2e-6, atol=1e-7)


@pytest.mark.usefixtures("_no_engine")
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
