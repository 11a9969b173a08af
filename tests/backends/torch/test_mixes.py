"""Derivatives of PyTorch's of every order and mix: forward over forward, vmap of both, compiled."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

import xloss
from nightly import core
from torch_cases import GRADIENTS, labels, logits, of_leaves, torch

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own

vmap, grad, jvp = torch.func.vmap, torch.func.grad, torch.func.jvp
Z, Y, W = logits(3, 4).double(), labels(3, 4), logits(5, 4).double()
IGNORED = torch.tensor([0, 2, -100])


def of_a_vector(name: str) -> tuple[Callable[..., Any], Any]:
    """Return a case as a number that depends on one vector, and that vector."""
    function, leaves = of_leaves(name)

    def of(x: Any) -> Any:
        parts = x.split([a.numel() for a in leaves])
        out = function(*(part.view(a.shape) for part, a in zip(parts, leaves, strict=True)))
        return (out**2).sum()

    return of, torch.cat([a.flatten() for a in leaves])


def forward(f: Any, d: Any) -> Any:
    return lambda x: jvp(f, (x,), (d,))[1]


def backward(f: Any, d: Any) -> Any:
    return lambda x: (grad(f)(x) * d).sum()


def mapped(f: Any, d: Any) -> Any:
    """Forward mode as jacfwd has it: mapped over directions."""
    return lambda x: vmap(lambda v: jvp(f, (x,), (v,))[1])(d[None])[0]


MIXES = [
    *((step,) for step in (forward, backward, mapped)),
    *product((forward, backward, mapped), repeat=2),
    *product((forward, backward), repeat=3),
]


# By day the third order of a loss by classes, of one by elements and of a product.
DEEP = ("cross_entropy with weights", "binary", "linear")


@pytest.mark.parametrize(
    ("name", "orders"),
    core(product(GRADIENTS, ((1, 2), (3,))), lambda name, orders: 3 not in orders or name in DEEP),
)
def test_every_mix_up_to_the_third_order(name: str, orders: tuple[int, ...]) -> None:
    """Each is the slope of the one before it, by finite differences.

    Forward mode over forward mode was 0 without a word.
    """
    f, x = of_a_vector(name)
    d = logits(len(x), 1)[:, 0].double()
    d, step = d / d.norm(), 1e-5
    for mix in (mix for mix in MIXES if len(mix) in orders):
        before = f
        for one in mix[:-1]:
            before = one(before, d)
        slope = (before(x + step * d) - before(x - step * d)) / (2 * step)
        got, names = mix[-1](before, d), [one.__name__ for one in mix]
        values = [got(x)] if len(mix) > 2 else [got(x), vmap(got)(x[None])[0]]
        for value in values:
            torch.testing.assert_close(
                value, slope, rtol=1e-6, atol=1e-8, msg=lambda m, n=names: f"{n}: {m}"
            )


def test_the_curvature_of_a_target_that_is_met() -> None:
    """The first derivative is 0, and p (1 - p) / n = 1/16 the second."""
    half = torch.full((4,), 0.5, dtype=torch.float64)

    def loss(z: Any) -> Any:
        return xloss.binary_cross_entropy_with_logits(z, half)

    for inner in (torch.func.jacfwd, torch.func.jacrev):
        got = torch.func.jacfwd(inner(loss))(torch.zeros_like(half))
        torch.testing.assert_close(got, torch.eye(4).double() / 16, rtol=4e-16, atol=0)


def test_vmap_over_any_argument() -> None:
    """Weights, labels, what is there: mapped alone, beside arrays that are not."""
    loss, closed = xloss.cross_entropy, xloss.value_and_grad(xloss.cross_entropy)
    two = torch.stack([Y, Y.flip(0)])
    rows, p = logits(2, 3).double().exp(), logits(6, 4).double().softmax(-1).reshape(2, 3, 4)
    arguments = {
        "weight": logits(2, 4).double().exp(),
        "sample_weight": rows,
        "where": rows > 1,
        "normalizer": rows[:, 0],
    }
    mapped = [
        (lambda v, f=f, y=y, name=name: f(Z, y, **{name: v}), values)
        for name, values in arguments.items()
        for f, y in ((loss, IGNORED), (grad(loss), IGNORED), (closed, IGNORED), (loss, Y * 0 - 100))
    ]
    mapped += [(lambda t, f=f: f(Z, t), t) for f in (loss, closed) for t in (two, p)]
    mapped += [
        (lambda u: xloss.value_and_grad(xloss.nll_loss)(Z, Y, cotangent=u), rows[:, 0]),
        (lambda u: xloss.value_and_grad(xloss.linear_cross_entropy)(Z, W, Y, cotangent=u), rows[0]),
        (lambda t: xloss.value_and_grad(xloss.kl_div)(Z, t), p),
        (lambda s: xloss.effective_count(Y, sample_weight=s), rows),
        (lambda i: closed(Z, xloss.TopKTargets(i[:, None], rows[0][:, None])), two),
    ]
    for function, values in mapped:
        each = [function(v) for v in values]
        want = torch.utils._pytree.tree_map(lambda *a: torch.stack(a), *each)
        torch.testing.assert_close(vmap(function)(values), want)
    got = vmap(lambda z: xloss.cross_entropy(z, Y, axis=0))(Z.T[None])
    torch.testing.assert_close(got, xloss.cross_entropy(Z, Y)[None])
    hot = vmap(lambda y: xloss.one_hot(y, 3, axis=0))(Y[None])[0]
    assert torch.equal(hot.T.argmax(-1), Y)


def test_value_and_grad_of_linear_under_vmap() -> None:
    def both(x: Any, w: Any, b: Any) -> Any:
        call = xloss.value_and_grad(xloss.linear_cross_entropy, (0, 1, "bias"))
        return call(x, w, IGNORED, bias=b, sample_weight=torch.tensor([0.5, 0.0, 2.0]).double())

    b = logits(5, 1)[:, 0].double()
    value, grads = both(Z, W, b)
    got, got_grads = vmap(both)(Z[None], W[None], b[None])
    torch.testing.assert_close((got[0], *(g[0] for g in got_grads)), (value, *grads))


def test_a_call_on_plain_tensors_inside_a_transformation() -> None:
    """They are no arguments of it, and yet PyTorch hands out no pointer to them there."""
    s = torch.tensor(2.0).double()
    for loss in (
        lambda: xloss.cross_entropy(Z, Y),
        lambda: xloss.linear_cross_entropy(Z, W, Y),
        lambda: xloss.value_and_grad(xloss.cross_entropy)(Z, Y)[1].square().sum(),
        lambda: xloss.logsumexp(Z).sum(),
    ):
        want = loss()
        torch.testing.assert_close(grad(lambda s, f=loss: s * f())(s), want)
        torch.testing.assert_close(vmap(lambda s, f=loss: s * f())(s[None]), 2 * want[None])


TRANSFORMS: dict[str, Callable[..., Any]] = {
    "jvp": lambda f: lambda x: jvp(f, (x,), (x.detach(),))[1],
    "vmap of grad": lambda f: lambda x: vmap(grad(f))(x[None]),
}


@pytest.mark.parametrize(
    ("name", "transform"),
    [("cross_entropy", "jvp"), *product(("binary", "linear", "log_softmax"), ["vmap of grad"])],
)
def test_compiled_transformations(name: str, transform: str) -> None:
    """torch.compile of torch.func: the derivative of the logits' product too, forward as well."""
    f, x = of_a_vector(name)
    made = TRANSFORMS[transform](lambda z: f(2 * z))
    got = torch.compile(made, fullgraph=True, backend="eager")(x)
    torch.testing.assert_close(got, made(x), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "name", core(["cross_entropy", "linear", "log_softmax"], lambda name: name == "linear")
)
def test_a_compiled_second_derivative_is_refused(name: str) -> None:
    """Only the first derivative stands beside a compiled loss: a second would be wrong."""
    f, x = of_a_vector(name)
    made = torch.func.hessian(lambda z: f(2 * z))
    with pytest.raises(Exception, match=r"follows a first derivative of a loss, no second"):
        torch.compile(made, fullgraph=True, backend="eager")(x)
