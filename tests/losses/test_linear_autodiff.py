"""linear_cross_entropy under autograd, torch.compile and JAX: first derivatives, and no second."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import xloss
from linear_cases import ALL, KEEP, ROWS, UP, B, T, W, X, Y, check, expected

# Forward mode runs torch's own decompositions through it.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")

torch = pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
jax = pytest.importorskip("jax", reason="pip install 'xloss[jax]'")
jnp = jax.numpy
TWICE = r"linear_cross_entropy: second derivatives are not offered.*cross_entropy\("


def leaves(*arrays: np.ndarray) -> list[Any]:
    return [torch.tensor(a, dtype=torch.float32, requires_grad=True) for a in arrays]


def tensors(options: dict[str, Any]) -> dict[str, Any]:
    return {
        k: torch.tensor(v if v.dtype == bool else np.float32(v)) if isinstance(v, np.ndarray) else v
        for k, v in options.items()
    }


@pytest.mark.parametrize("soft", [False, True], ids=["labels", "soft"])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_compiled_it_gives_the_closed_form(soft, reduction):
    """To features, weight, bias and soft targets, times the upstream; uncompiled: the suite's."""
    given = ALL if reduction == "mean" else {**ALL, "reduction": reduction}
    t = T if soft else Y
    up = UP if reduction == "none" else np.float64(-2.0)
    want = expected(X, W, t, B, given, up)
    x, w, b = leaves(X, W, B)
    targets = leaves(T)[0] if soft else torch.tensor(t)
    own = {**tensors(given), "block_rows": 3}

    @torch.compile(fullgraph=True, backend="aot_eager")
    def loss(x, w, b, targets):
        return xloss.linear_cross_entropy(x, w, targets, bias=b, **own)

    torch._dynamo.reset()
    value = loss(x, w, b, targets)
    value.backward(torch.tensor(up, dtype=torch.float32))
    check(value.detach().numpy(), want.value, want.value_off, "value")
    leaf = {"x": x, "weight": w, "bias": b, **({"targets": targets} if soft else {})}
    for n, a in leaf.items():
        check(a.grad.numpy(), want.grads[n], want.off[n], n)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_retained_graph_gives_the_same_again(reduction):
    """The gradients of the forward pass are scaled in place once, then computed anew."""
    x, w = leaves(X, W)
    loss = xloss.linear_cross_entropy(x, w, torch.tensor(Y), reduction=reduction).sum()
    first = torch.autograd.grad(3 * loss, (x, w), retain_graph=True)
    kept = [g.clone() for g in first]
    second = torch.autograd.grad(loss, (x, w), retain_graph=True)
    want = expected(X, W, Y, None, {"reduction": reduction} if reduction == "none" else {})
    names = ("x", "weight")
    for name, was, now, other in zip(names, kept, first, second, strict=True):
        torch.testing.assert_close(now, was, rtol=0, atol=0)
        check(now.numpy(), 3 * want.grads[name], 3 * want.off[name], name)
        check(other.numpy(), want.grads[name], want.off[name], name)


def test_an_infinite_upstream_leaves_absent_rows_zero():
    """As a loss scaler's overflow does: inf·0 is NaN."""
    x, w = leaves(X, W)
    y = torch.tensor(Y)
    (xloss.linear_cross_entropy(x, w, y) * torch.inf).backward()
    assert not x.grad[Y == -100].any()
    assert not torch.isfinite(x.grad[Y != -100]).all()


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_second_derivative_says_that_there_is_none(reduction):
    """Not silently 0; a first one through create_graph=True is given."""
    x, w = leaves(X, W)
    loss = xloss.linear_cross_entropy(x, w, torch.tensor(Y), reduction=reduction).sum()
    (g,) = torch.autograd.grad(loss, x, create_graph=True)
    with pytest.raises(RuntimeError, match=TWICE):
        g.square().sum().backward()


def test_torch_func_leaves_absent_rows_out():
    """Its transformations take plain operations: test_mixes.py has the others."""
    x, w = (torch.tensor(np.float32(a)) for a in (np.where(Y[:, None] < 0, np.nan, X), W))
    want, y = expected(X, W, Y, None, {}), torch.tensor(Y)
    grads = torch.func.grad(lambda x, w: xloss.linear_cross_entropy(x, w, y), (0, 1))(x, w)
    for name, g in zip(("x", "weight"), grads, strict=True):
        check(g.numpy(), want.grads[name], want.off[name], name)


def test_jax_grad_under_jit():
    """Every gradient, times the upstream; absent rows of NaN."""
    given = {**ALL, "reduction": "none"}
    want = expected(X, W, T, B, given, UP)
    own = {k: jnp.asarray(v) if isinstance(v, np.ndarray) else v for k, v in given.items()}
    arrays = [jnp.asarray(np.float32(a)) for a in (np.where(KEEP[:, None], X, np.nan), W, B)]

    def loss(x, w, b, t):
        value = xloss.linear_cross_entropy(x, w, t, bias=b, block_rows=3, **own)
        return jnp.sum(value * jnp.asarray(np.float32(UP)))

    grads = jax.jit(jax.grad(loss, (0, 1, 2, 3)))(*arrays, jnp.asarray(np.float32(T)))
    for n, g in zip(("x", "weight", "bias", "targets"), grads, strict=True):
        check(g, want.grads[n], want.off[n], n)


def test_jax_second_derivatives_say_that_there_are_none():
    x, w, y = jnp.asarray(np.float32(X)), jnp.asarray(np.float32(W)), jnp.asarray(Y)

    def loss(x):
        return xloss.linear_cross_entropy(x, w, y)

    with pytest.raises(RuntimeError, match=TWICE):
        jax.grad(lambda x: jnp.sum(jax.grad(loss)(x) ** 2))(x)
    with pytest.raises(RuntimeError, match=TWICE):
        jax.hessian(loss)(x)


def test_jax_vmap_and_bfloat16():
    x, w, y = jnp.asarray(np.float32(X)), jnp.asarray(np.float32(W)), jnp.asarray(Y)
    both = jax.vmap(lambda x: xloss.linear_cross_entropy(x, w, y))(jnp.stack([x, x]))
    want = expected(X, W, Y, None, {})
    check(both, want.value.repeat(2), want.value_off, "value")
    g = jax.grad(lambda x: xloss.linear_cross_entropy(x, w, y))(x.astype(jnp.bfloat16))
    assert g.dtype == jnp.bfloat16
    off = want.off["x"] + np.abs(want.grads["x"]) * 2.0**-8
    check(g.astype(jnp.float32), want.grads["x"], off, "x")
    assert len(g) == ROWS
