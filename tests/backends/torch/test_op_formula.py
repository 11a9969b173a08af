"""torch.compile without a compiled engine: plain operations, and two numbers a row kept."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

import expected
import xloss
from nightly import core
from xloss.engines.cpu import engine as cpu

torch = pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
pytest.importorskip("xloss.backends.torch.custom_op_formula")

ROWS, CLASSES = 7, 50
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rows": {"reduction": "none", "label_smoothing": 0.125, "z_loss": 0.0625},
    "weighted": {"weight": torch.arange(1, CLASSES + 1) / 64, "sample_weight": torch.arange(7) / 8},
    "absent": {"where": torch.arange(ROWS) != 2, "softcap": 4.0},
}


@pytest.fixture(autouse=True)
def _no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "unavailable", lambda: "not here")


def data(soft: bool = False) -> tuple[Any, Any]:
    shape = (ROWS, CLASSES)
    z = torch.from_numpy(expected.inputs("cross_entropy", shape)).to(torch.float32)
    t = expected.soft(shape) if soft else expected.labels(ROWS, CLASSES)
    for masked in (3, 4, 5):  # a class that no target has
        z[masked, (t[masked] == 0).argmax() if soft else t[masked] - 1] = -torch.inf
    return z.requires_grad_(), torch.from_numpy(t)


@pytest.mark.parametrize(
    ("name", "soft"),
    core(product(OPTIONS, (False, True)), lambda name, soft: soft == (name in ("rows", "absent"))),
)
def test_value_and_gradient_against_the_oracle(name: str, soft: bool) -> None:
    """In units of the largest number of a row, as the error budget of this engine has it."""
    z, t = data(soft)
    chosen = OPTIONS[name]
    given = {k: v.numpy() if torch.is_tensor(v) else v for k, v in chosen.items()}
    want = expected.expected("cross_entropy", z.detach().double().numpy(), t.numpy(), **given)
    got = torch.compile(
        lambda z, t: xloss.cross_entropy(z, t, **chosen), fullgraph=True, backend="aot_eager"
    )(z, t)
    got.sum().backward()
    within = 8 if "softcap" in chosen else 6
    value = want.rows if chosen.get("reduction") == "none" else want.value
    expected.close(got.detach().numpy(), value, within=within)
    expected.close(z.grad.numpy(), want.grad, within=within)


def graphs(function: Callable[..., Any], *given: Any) -> list[Any]:
    """Return the graphs that autograd's compiler makes of a function and of its gradient."""
    from functorch.compile import make_boxed_func, min_cut_rematerialization_partition
    from torch._dynamo.backends.common import aot_autograd

    seen: list[Any] = []

    def keep(graph: Any, _: Any) -> Any:
        seen.append(graph)
        return make_boxed_func(graph.forward)

    backend = aot_autograd(
        fw_compiler=keep, bw_compiler=keep, partition_fn=min_cut_rematerialization_partition
    )
    torch.compile(function, fullgraph=True, backend=backend)(*given).sum().backward()
    return seen


def test_nothing_of_the_logits_size_is_made_for_backward() -> None:
    """What the value's graph hands over is the arguments and a few numbers a row, no operation."""
    forward, backward = graphs(xloss.cross_entropy, *data())
    for graph in (forward, backward):
        assert not [n for n in graph.graph.nodes if "xloss" in str(n.target)]
    arguments = [n for n in forward.graph.nodes if n.op == "placeholder"]
    (output,) = (n for n in forward.graph.nodes if n.op == "output")
    large = [
        n
        for n in output.args[0]
        if n is not None and n not in arguments and n.meta["val"].numel() >= ROWS * CLASSES
    ]
    assert large == []


def test_a_second_derivative_is_an_error() -> None:
    """Of a graph that autograd itself follows, which the backend "eager" leaves."""
    z, t = data()
    loss = torch.compile(xloss.cross_entropy, fullgraph=True, backend="eager")(z, t)
    with pytest.raises(RuntimeError, match=r"^torch\.compile follows a first derivative"):
        torch.autograd.grad(loss, z, create_graph=True)
