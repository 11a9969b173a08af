"""Derivatives of PyTorch's of every order and mix: forward over forward, vmap of both, compiled."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

import xloss
from nightly import core

torch = pytest.importorskip("torch")
F = torch.nn.functional

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own


def tensor(*shape: int, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


Z, Y, T, W = (
    tensor(3, 4),
    torch.tensor([0, 2, -100]),
    tensor(3, 4, seed=1).softmax(-1),
    tensor(5, 4),
)
LISTED, SHARES = torch.tensor([[0, 1, 1], [3, -100, 2], [1, 2, 0]]), T[:, :3] / 2
LABELS, S = torch.tensor([0, 2, 1]), torch.tensor([0.5, 0.0, 2.0], dtype=torch.float64)


def log_sigmoid_focal(z: Any) -> Any:
    p = torch.sigmoid(z)
    entropy = -(T * F.logsigmoid(z) + (1 - T) * F.logsigmoid(-z))
    return ((T * (1 - p) + (1 - T) * p) ** 2 * entropy).mean()


def plain_focal(z: Any) -> Any:
    return (T * (1 - z.softmax(-1)) ** 2 * -z.log_softmax(-1)).sum() / 3


BENT: dict[str, Any] = {"label_smoothing": 0.1, "z_loss": 0.1, "softcap": 3.0}


def capped(z: Any, t: Any) -> Any:
    z = 3 * torch.tanh(z / 3)
    rows = F.cross_entropy(z, t, label_smoothing=0.1, reduction="none")
    present = (Y >= 0) if t is Y else torch.ones(3)
    return (rows + 0.1 * torch.logsumexp(z, -1) ** 2 * present).sum() / present.sum()


def of_few(z: Any, p: Any) -> Any:
    return xloss.cross_entropy(z, xloss.TopKTargets(LISTED, p, "uniform"), **BENT)


def of_few_written_out(z: Any, p: Any) -> Any:
    """The same of all four classes: what a row's list lacks to 1 is spread over the others."""
    places, present = LISTED.clamp(min=0), (LISTED >= 0).double()
    t = torch.zeros_like(z).scatter_add(1, places, p * present)
    other = torch.ones_like(z).scatter(1, places, 1 - present)
    return capped(z, t + other * (1 - t.sum(1, keepdim=True)) / other.sum(1, keepdim=True))


def joint(loss: Callable[..., Any]) -> Callable[..., Any]:
    """Return a loss as a function of its two arguments side by side."""
    return lambda both: loss(both[:, :4], both[:, 4:])


# What is differentiated, the same written in PyTorch's own operations, and where.
PAIRS: dict[str, tuple[Callable[..., Any], Callable[..., Any], Any]] = {
    "cross_entropy": (lambda z: xloss.cross_entropy(z, Y), lambda z: F.cross_entropy(z, Y), Z),
    "rows": (
        lambda z: (xloss.cross_entropy(z, Y, reduction="none") ** 2).sum(),
        lambda z: (F.cross_entropy(z, Y, reduction="none") ** 2).sum(),
        Z,
    ),
    "options": (lambda z: xloss.cross_entropy(z, Y, **BENT), lambda z: capped(z, Y), Z),
    "soft targets": (
        joint(lambda z, t: xloss.cross_entropy(z, t, reduction="sum") ** 2),
        joint(lambda z, t: F.cross_entropy(z, t, reduction="sum") ** 2),
        torch.cat([Z, T], 1),
    ),
    "few classes": (joint(of_few), joint(of_few_written_out), torch.cat([Z, SHARES], 1)),
    "nll_loss": (
        lambda x: xloss.nll_loss(x, LABELS) ** 2,
        lambda x: F.nll_loss(x, LABELS) ** 2,
        Z.log_softmax(-1),
    ),
    "log_loss": (
        lambda p: xloss.log_loss(p, LABELS),
        lambda p: F.nll_loss(p.log(), LABELS),
        Z.softmax(-1),
    ),
    "focal_loss": (lambda z: xloss.focal_loss(z, T), plain_focal, Z),
    "binary": (
        lambda z: xloss.binary_cross_entropy_with_logits(z, T),
        lambda z: F.binary_cross_entropy_with_logits(z, T),
        Z,
    ),
    "binary of a target that is met": (
        lambda z: xloss.binary_cross_entropy_with_logits(z, torch.full_like(T, 0.5)),
        lambda z: F.binary_cross_entropy_with_logits(z, torch.full_like(T, 0.5)),
        torch.zeros(3, 4, dtype=torch.float64),
    ),
    "binary_cross_entropy": (
        lambda p: xloss.binary_cross_entropy(p, T),
        lambda p: F.binary_cross_entropy(p, T),
        Z.sigmoid(),
    ),
    "sigmoid_focal_loss": (lambda z: xloss.sigmoid_focal_loss(z, T), log_sigmoid_focal, Z),
    "kl_div": (
        lambda t: xloss.kl_div(Z.log_softmax(-1), t),
        lambda t: (t * (t.log() - Z.log_softmax(-1))).sum() / 3,
        T,
    ),
    "entropy": (
        lambda z: xloss.entropy(z).sum(),
        lambda z: -(z.softmax(-1) * z.log_softmax(-1)).sum(),
        Z,
    ),
    "logsumexp": (lambda z: xloss.logsumexp(z).sum(), lambda z: torch.logsumexp(z, -1).sum(), Z),
    "softmax": (lambda z: (xloss.softmax(z) * T).sum(), lambda z: (z.softmax(-1) * T).sum(), Z),
    "log_softmax": (
        lambda z: (xloss.log_softmax(z) * T).sum(),
        lambda z: (z.log_softmax(-1) * T).sum(),
        Z,
    ),
    "linear": (
        lambda x: xloss.linear_cross_entropy(x, W, Y),
        lambda x: F.cross_entropy(x @ W.T, Y),
        Z,
    ),
    "linear to its weight": (
        lambda w: xloss.linear_cross_entropy(Z, w, Y),
        lambda w: F.cross_entropy(Z @ w.T, Y),
        W,
    ),
}


def forward(f: Any, d: Any) -> Any:
    return lambda x: torch.func.jvp(f, (x,), (d,))[1]


def backward(f: Any, d: Any) -> Any:
    return lambda x: (torch.func.grad(f)(x) * d).sum()


MIXES = [mix for n in (1, 2, 3) for mix in product((forward, backward), repeat=n)]


@pytest.mark.parametrize("name", PAIRS)
def test_every_mix_up_to_the_third_order(name: str) -> None:
    """Forward mode over forward mode was 0 without a word."""
    ours, torchs, x = PAIRS[name]
    d = tensor(*x.shape, seed=7)
    want, order = torchs, 0
    for mix in MIXES:
        if len(mix) > order:  # of PyTorch's own operations, by reverse mode alone
            want, order = backward(want, d), len(mix)
        got = ours
        for step in mix:
            got = step(got, d)
        names = [step.__name__ for step in mix]
        torch.testing.assert_close(
            got(x), want(x), rtol=1e-10, atol=1e-12, msg=lambda m, n=names: f"{n}: {m}"
        )


@pytest.mark.parametrize("name", PAIRS)
def test_every_hessian(name: str) -> None:
    from torch.func import jacfwd, jacrev, vmap

    ours, torchs, x = PAIRS[name]
    want = jacrev(jacrev(torchs))(x)
    for outer, inner in product((jacfwd, jacrev), repeat=2):
        got = outer(inner(ours))
        for value in (got(x), vmap(got)(x[None])[0]):
            torch.testing.assert_close(value, want, rtol=1e-10, atol=1e-12)


def test_vmap_over_any_argument() -> None:
    """Weights, labels, what is there: mapped alone, beside arrays that are not."""
    vmap, grad = torch.func.vmap, torch.func.grad
    weights, rows = tensor(2, 4, seed=3).exp(), tensor(2, 3, seed=4).exp()
    for name, values in (("weight", weights), ("sample_weight", rows), ("where", rows > 1)):
        for f in (xloss.cross_entropy, grad(xloss.cross_entropy)):
            got = vmap(lambda w, f=f, name=name: f(Z, Y, **{name: w}))(values)
            torch.testing.assert_close(got, torch.stack([f(Z, Y, **{name: w}) for w in values]))
    got = vmap(lambda y: xloss.cross_entropy(Z, y))(torch.stack([LABELS, LABELS.flip(0)]))
    assert got.tolist() == [xloss.cross_entropy(Z, y).item() for y in (LABELS, LABELS.flip(0))]
    assert vmap(lambda y: xloss.one_hot(y, 3, axis=0))(LABELS[None])[0].T.argmax(-1).tolist() == [
        0,
        2,
        1,
    ]


def test_value_and_grad_of_linear_under_vmap() -> None:
    def both(x: Any, w: Any, b: Any) -> Any:
        call = xloss.value_and_grad(xloss.linear_cross_entropy, (0, 1, "bias"))
        return call(x, w, Y, bias=b, sample_weight=S)

    b = tensor(5, seed=5)
    value, grads = both(Z, W, b)
    mapped, mapped_grads = torch.func.vmap(both)(Z[None], W[None], b[None])
    torch.testing.assert_close((mapped[0], *(g[0] for g in mapped_grads)), (value, *grads))


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
        torch.testing.assert_close(torch.func.grad(lambda s, f=loss: s * f())(s), want)
        torch.testing.assert_close(
            torch.func.vmap(lambda s, f=loss: s * f())(s[None]), 2 * want[None]
        )


TRANSFORMS: dict[str, Callable[..., Any]] = {
    "grad": torch.func.grad,
    "jvp": lambda f: lambda x: torch.func.jvp(f, (x,), (x.detach(),))[1],
    "vmap": lambda f: lambda x: torch.func.vmap(f)(x[None]),
    "vmap of grad": lambda f: lambda x: torch.func.vmap(torch.func.grad(f))(x[None]),
}


FORWARD = ("cross_entropy", "jvp")


@pytest.mark.parametrize(
    ("name", "transform"),
    core(
        product(["cross_entropy", "binary", "linear", "log_softmax"], TRANSFORMS),
        lambda name, transform: transform == "vmap of grad" or (name, transform) == FORWARD,
    ),
)
def test_compiled_transformations(name: str, transform: str) -> None:
    """torch.compile of torch.func: the derivative of the logits' product too, forward as well."""
    ours, torchs, x = PAIRS[name]
    made = TRANSFORMS[transform](lambda z: ours(2 * z))
    got = torch.compile(made, fullgraph=True, backend="eager")(x)
    want = TRANSFORMS[transform](lambda z: torchs(2 * z))(x)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "name", core(["cross_entropy", "linear", "log_softmax"], lambda name: name == "linear")
)
def test_a_compiled_second_derivative_is_refused(name: str) -> None:
    """Only the first derivative stands beside a compiled loss: a second would be wrong."""
    ours = PAIRS[name][0]
    made = torch.func.hessian(lambda z: ours(2 * z))
    with pytest.raises(Exception, match=r"follows a first derivative of a loss, no second"):
        torch.compile(made, fullgraph=True, backend="eager")(PAIRS[name][2])
