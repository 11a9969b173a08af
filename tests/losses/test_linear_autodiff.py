"""linear_cross_entropy under autograd, torch.compile and JAX: first derivatives, and no second."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from linear_cases import ALL, UP, B, T, W, X, Y, held
from xloss import linear_cross_entropy

# Forward mode runs torch's own decompositions through it.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")

torch = pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
jax = pytest.importorskip("jax", reason="pip install 'xloss[jax]'")
jnp = jax.numpy
TWICE = r"linear_cross_entropy: second derivatives are not offered.*cross_entropy\("
LABELS = torch.tensor(Y)


def leaves(*arrays: np.ndarray) -> list[Any]:
    return [torch.tensor(a, dtype=torch.float32, requires_grad=True) for a in arrays]


def tensors(options: dict[str, Any]) -> dict[str, Any]:
    return {
        k: torch.tensor(v if v.dtype == bool else np.float32(v)) if isinstance(v, np.ndarray) else v
        for k, v in options.items()
    }


def slopes(names: str, grads: Any) -> dict[str, Any]:
    return {n: np.asarray(g) for n, g in zip(names.split(), grads, strict=True)}


@pytest.mark.parametrize("soft", [False, True], ids=["labels", "soft"])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_compiled_it_gives_the_closed_form(soft, reduction):
    """To features, weight, bias and soft targets, times the upstream; uncompiled: the suite's."""
    t, up = T if soft else Y, UP if reduction == "none" else np.float64(-2.0)
    leaf = leaves(X, W, B, *([T] if soft else []))
    own = {**tensors(ALL), "reduction": reduction, "block_rows": 3}

    @torch.compile(fullgraph=True, backend="aot_eager")
    def loss(x, w, b, targets):
        return linear_cross_entropy(x, w, targets, bias=b, **own)

    torch._dynamo.reset()
    value = loss(*leaf[:3], leaf[3] if soft else LABELS)
    value.backward(torch.tensor(up, dtype=torch.float32))
    names = "x weight bias targets" if soft else "x weight bias"
    got = {"value": value.detach().numpy(), **slopes(names, [a.grad for a in leaf])}
    held(got, t, B, up, **ALL, reduction=reduction)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_retained_graph_gives_the_same_again(reduction):
    """The gradients of the forward pass are scaled in place once, then computed anew."""
    x, w = leaves(X, W)
    loss = linear_cross_entropy(x, w, LABELS, reduction=reduction).sum()
    first = torch.autograd.grad(3 * loss, (x, w), retain_graph=True)
    kept = [g.clone() for g in first]
    second = torch.autograd.grad(loss, (x, w), retain_graph=True)
    torch.testing.assert_close(first, tuple(kept), rtol=0, atol=0)
    held(slopes("x weight", first), upstream=3.0, reduction=reduction)
    held(slopes("x weight", second), reduction=reduction)


def test_an_infinite_upstream_leaves_absent_rows_zero():
    """As a loss scaler's overflow does: inf·0 is NaN."""
    x, w = leaves(X, W)
    (linear_cross_entropy(x, w, LABELS) * torch.inf).backward()
    assert not x.grad[Y == -100].any()
    assert not torch.isfinite(x.grad[Y != -100]).all()


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_second_derivative_says_that_there_is_none(reduction):
    """Not silently 0; a first one through create_graph=True is given."""
    x, w = leaves(X, W)
    loss = linear_cross_entropy(x, w, LABELS, reduction=reduction).sum()
    (g,) = torch.autograd.grad(loss, x, create_graph=True)
    with pytest.raises(RuntimeError, match=TWICE):
        g.square().sum().backward()


def test_torch_func_leaves_absent_rows_out():
    """Its transformations take plain operations: test_mixes.py has the others."""
    x, w = (torch.tensor(np.float32(a)) for a in (np.where(Y[:, None] < 0, np.nan, X), W))
    grads = torch.func.grad(lambda x, w: linear_cross_entropy(x, w, LABELS), (0, 1))(x, w)
    held(slopes("x weight", grads))


def test_jax_grad_under_jit():
    """Every gradient, times the upstream; absent rows of NaN."""
    x, w, b, t = (np.float32(a) for a in (np.where(ALL["where"][:, None], X, np.nan), W, B, T))
    own = {k: jnp.asarray(v) if isinstance(v, np.ndarray) else v for k, v in ALL.items()}

    def loss(x, w, b, t):
        value = linear_cross_entropy(x, w, t, bias=b, block_rows=3, reduction="none", **own)
        return jnp.sum(value * jnp.asarray(np.float32(UP)))

    grads = jax.jit(jax.grad(loss, (0, 1, 2, 3)))(x, w, b, t)
    held(slopes("x weight bias targets", grads), T, B, UP, **ALL, reduction="none")


def on_jax(x):
    return linear_cross_entropy(x, jnp.asarray(np.float32(W)), jnp.asarray(Y))


def test_jax_second_derivatives_say_that_there_are_none():
    with pytest.raises(RuntimeError, match=TWICE):
        jax.grad(lambda x: jnp.sum(jax.grad(on_jax)(x) ** 2))(np.float32(X))
    with pytest.raises(RuntimeError, match=TWICE):
        jax.hessian(on_jax)(np.float32(X))


def test_jax_vmap_and_bfloat16():
    x = jnp.asarray(np.float32(X))
    for value in jax.vmap(on_jax)(jnp.stack([x, x])):
        held({"value": np.asarray(value)})
    g = jax.grad(on_jax)(x.astype(jnp.bfloat16))
    assert g.dtype == jnp.bfloat16
    held({"x": np.asarray(g)}, dtype="bfloat16")
