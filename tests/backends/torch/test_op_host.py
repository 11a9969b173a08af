"""torch.compile on the host keeps the compiled engine, as operations that PyTorch checks."""

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
pytest.importorskip("numba", reason="the engine is Numba's: pip install 'xloss[fast]'")
torch_op_host = pytest.importorskip("xloss.backends.torch.custom_op_host")

DTYPES = ("float64", "float32", "bfloat16", "float16")
ROWS, FEW, MANY = 7, 5, 150  # numbers of classes on both sides of 96


def data(classes: int, dtype: str = "float32", soft: bool = False) -> tuple[Any, Any]:
    shape = (ROWS, classes)
    z = torch.from_numpy(expected.inputs("cross_entropy", shape)).to(getattr(torch, dtype))
    t = expected.soft(shape) if soft else expected.labels(ROWS, classes)
    return z.requires_grad_(), torch.from_numpy(t)


def options(classes: int) -> dict[str, dict[str, Any]]:
    """What the engine takes, in numbers that every dtype holds."""
    weight = torch.arange(1, classes + 1) / 256
    return {
        "plain": {},
        "sum": {"reduction": "sum"},
        "rows": {"reduction": "none"},
        "all": {"label_smoothing": 0.125, "z_loss": 0.0625, "softcap": 4.0},
        "weighted": {"weight": weight, "sample_weight": torch.arange(ROWS) / 8, "ignore_index": 3},
        "where": {"where": torch.arange(ROWS) != 2, "weight": weight, "label_smoothing": 0.5},
        "normalizer": {"normalizer": 3.0, "sample_weight": torch.arange(ROWS) / 4},
        "normalizer array": {"normalizer": torch.tensor(3.0), "z_loss": 0.5},
    }


def compiled(function: Callable[..., Any], backend: Any = "aot_eager", **how: Any) -> Any:
    return torch.compile(function, fullgraph=True, backend=backend, **how)


def given(classes: int, name: str, soft: bool) -> dict[str, Any]:
    chosen = options(classes)[name]
    return {k: v for k, v in chosen.items() if not (soft and k == "ignore_index")}


BY_DAY = {
    ("float32", FEW, "all", False),
    ("bfloat16", FEW, "rows", True),
    ("float32", FEW, "normalizer array", False),
    ("float64", FEW, "weighted", False),
    ("float32", MANY, "plain", False),
    ("float16", MANY, "where", True),
}
MIXES = core(product(DTYPES, (FEW, MANY), options(FEW), (False, True)), lambda *mix: mix in BY_DAY)


@pytest.mark.parametrize(("dtype", "classes", "name", "soft"), MIXES)
def test_the_same_bits_by_the_same_engine(
    dtype: str, classes: int, name: str, soft: bool, wanted: dict[str, list[Any]]
) -> None:
    """Value and gradient, recorded and closed form, and without a gradient.

    Those of the engine itself are held to the oracle by the suite.
    """
    chosen = given(classes, name, soft)
    z, t = data(classes, dtype, soft=soft)

    def loss(z: Any, t: Any) -> Any:
        return xloss.cross_entropy(z, t, **chosen)

    both = xloss.value_and_grad(xloss.CrossEntropyLoss(**chosen))
    got, closed = compiled(loss), compiled(lambda z, t: both(z, t))
    want = loss(z, t)
    (slope,) = torch.autograd.grad(want.sum(), z)
    made = got(z, t)
    assert torch.equal(made, want)
    assert torch.equal(torch.autograd.grad(made.sum(), z)[0], slope)
    with torch.no_grad():
        assert torch.equal(got(z, t), want)
    for found, right in zip(closed(z, t), (want, slope), strict=True):
        assert torch.equal(found, right)
    # Of few classes one launch gives loss and gradient; the weights are summed by plain operations.
    launches, plain = wanted["cpu"], wanted["generic"]
    launches.clear(), plain.clear()
    got(z, t).sum().backward()
    few = classes == FEW and chosen.get("reduction") != "none"
    assert len(launches) - len(plain) == (1 if few else 2)
    launches.clear()
    closed(z, t)
    assert launches


CHECKED = {
    "labels": lambda: (data(FEW)[0], data(FEW)[1], None, None, None, None, None),
    "weights": lambda: (
        *data(MANY, "float64"),
        torch.ones(MANY),
        torch.rand(ROWS),
        torch.arange(ROWS) > 1,
        torch.tensor(2.0, dtype=torch.float64),
        None,
    ),
    "soft": lambda: (*data(MANY, "bfloat16", soft=True), None, None, None, None, 2.0),
}


@pytest.mark.parametrize(
    ("name", "reduction", "saves"),
    core(
        product(CHECKED, ["mean", "sum", "none"], ["nothing", "stats", "gradient"]),
        lambda name, reduction, saves: (
            (reduction, saves) in (("mean", "gradient"), ("none", "stats"))
            or (name, reduction) == ("labels", "sum")
        ),
    ),
)
def test_pytorch_s_own_checks(name: str, reduction: str, saves: str) -> None:
    """Schema, autograd registration, fake kernel and the compiler's view, by opcheck."""
    arrays = CHECKED[name]()
    if reduction == "none" and saves == "gradient":
        saves = "nothing"  # what `value` asks for
    soft = arrays[1].is_floating_point()
    chosen = (None if soft else -100, 0.125, 0.0625, 5.0, reduction)
    torch.library.opcheck(torch.ops.xloss.host_cross_entropy.default, (*arrays, *chosen, saves))
    plain = (arrays[0].detach(), *arrays[1:])
    out = torch.ops.xloss.host_cross_entropy(*plain, *chosen, saves)
    for factor in (1.0, 0.5):
        up = torch.full_like(out[0], factor)
        back = (up, *out[1:], *plain, *chosen)
        torch.library.opcheck(torch.ops.xloss.host_cross_entropy_backward.default, back)
    torch.library.opcheck(
        torch.ops.xloss.host_cross_entropy_gradient.default, (up, *plain, *chosen)
    )


def test_other_cotangents_and_a_second_backward() -> None:
    """What was computed ahead serves a cotangent of 1 alone; float16 needs the others exact."""
    with torch._functorch.config.patch(donated_buffer=False):  # for retain_graph
        for classes in (FEW, MANY):
            z, y = data(classes, "float16")
            got = compiled(lambda z, y: xloss.cross_entropy(z, y))
            for factor in (1.0, 2.0**14, 2.0**-8, 0.0, torch.inf):
                up = torch.tensor(factor)
                loss = got(z, y)
                (want,) = torch.autograd.grad(xloss.cross_entropy(z, y), z, up)
                for _ in range(2):
                    (mine,) = torch.autograd.grad(loss, z, up, retain_graph=True)
                    assert torch.equal(mine.nan_to_num(7.0), want.nan_to_num(7.0))


@pytest.mark.parametrize("dynamic", core([None, True], lambda dynamic: dynamic is None))
def test_a_number_that_normalizes_is_an_argument(dynamic: bool | None) -> None:
    """A float of the caller's, and an array, which may differ from call to call."""
    z, y = data(FEW)

    def loss(z: Any, y: Any, n: Any) -> Any:
        return xloss.cross_entropy(z, y, normalizer=n)

    got = compiled(loss, dynamic=dynamic)
    for n in (3.0, 4.0, torch.tensor(5.0), torch.tensor(6.0)):
        assert torch.equal(got(z, y, n), loss(z, y, n))


def test_no_rows() -> None:
    z, y = torch.empty(0, FEW, requires_grad=True), torch.empty(0, dtype=torch.int64)
    for reduction in ("mean", "none"):
        got = compiled(lambda z, y, how=reduction: xloss.cross_entropy(z, y, reduction=how))(z, y)
        (grad,) = torch.autograd.grad(got.sum(), z)
        assert grad.shape == z.shape
        assert got.tolist() == (0.0 if reduction == "mean" else [])


def test_bad_and_ignored_labels() -> None:
    """No value of a graph is read to raise: a bad label's row is NaN, an ignored one's 0."""
    z = torch.zeros(3, 4)
    y = torch.tensor([1, 4, -100])
    got = compiled(lambda z, y: xloss.cross_entropy(z, y, reduction="none"))(z, y)
    assert got.isnan().tolist() == [False, True, False]
    assert got[2] == 0


Y = torch.arange(6).reshape(2, 3)
# Logits whose classes, or rows, lie apart, or which are one row; labels, axis, backend.
STRIDED: dict[str, tuple[Any, Any, int, str]] = {
    "axis 1": (torch.randn(2, MANY, 3), Y, 1, "aot_eager"),
    "transposed": (torch.randn(3, 2, 7).transpose(0, 1), Y, -1, "aot_eager"),
    "every second": (torch.randn(2, 3, 2 * MANY)[..., ::2], Y, -1, "inductor"),
    "no axis of rows": (torch.randn(MANY), Y[0, 1], -1, "aot_eager"),
    "one row for all": (torch.randn(1, 1, 7).expand(2, 3, 7), Y, -1, "aot_eager"),
}


@pytest.mark.filterwarnings("ignore:`torch.jit.script")  # inductor's own import
@pytest.mark.parametrize("name", STRIDED)
def test_strides(name: str, wanted: dict[str, list[Any]]) -> None:
    """A gradient lies as the compiler was told, which an operation that says otherwise breaks."""
    x, y, axis, backend = STRIDED[name]
    z = x.detach().requires_grad_()
    got = compiled(lambda z, y: xloss.cross_entropy(2 * z, y, axis=axis), backend)
    (mine,) = torch.autograd.grad(got(z, y), z)
    (want,) = torch.autograd.grad(xloss.cross_entropy(2 * z, y, axis=axis), z)
    assert torch.equal(mine, want)
    direct = compiled(lambda z, y: xloss.value_and_grad(xloss.cross_entropy)(z, y, axis=axis))
    (want,) = torch.autograd.grad(xloss.cross_entropy(z, y, axis=axis), z)
    assert torch.equal(direct(z, y)[1], want)
    wanted["cpu"].clear()
    got(z, y)
    assert wanted["cpu"]


# ---- Where no compiled engine is -----------------------------------------------------------------


@pytest.fixture
def _no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "unavailable", lambda: "not here")


@pytest.mark.parametrize(
    ("name", "soft"), [("plain", False), ("all", True), ("weighted", False), ("where", True)]
)
@pytest.mark.usefixtures("_no_engine")
def test_the_formula_against_the_oracle(name: str, soft: bool) -> None:
    """In units of the largest number of a row, as the error budget of this engine has it."""
    z, t = data(50, soft=soft)
    with torch.no_grad():
        for masked in (3, 4, 5):  # a class that no target has
            z[masked, int((t[masked] == 0).int().argmax()) if soft else t[masked] - 1] = -torch.inf
    chosen = given(50, name, soft)
    arrays = {k: v.numpy() if torch.is_tensor(v) else v for k, v in chosen.items()}
    want = expected.expected("cross_entropy", z.detach().double().numpy(), t.numpy(), **arrays)
    for how, value in (("mean", want.value), ("none", want.rows)):
        got = compiled(lambda z, t, how=how: xloss.cross_entropy(z, t, **chosen, reduction=how))
        made = got(z, t)
        within = 8 if "softcap" in chosen else 6
        expected.close(made.detach().numpy(), value, within=within)
        if how == "mean":
            made.backward()
            expected.close(z.grad.numpy(), want.grad, within=within)


@pytest.mark.usefixtures("_no_engine")
def test_the_formula_keeps_nothing_of_the_logits_size_for_backward() -> None:
    """What the value's graph hands over is the arguments and a few numbers a row, no operation."""
    from functorch.compile import make_boxed_func, min_cut_rematerialization_partition
    from torch._dynamo.backends.common import aot_autograd

    seen: list[Any] = []

    def keep(graph: Any, _: Any) -> Any:
        seen.append(graph.graph)
        return make_boxed_func(graph.forward)

    backend = aot_autograd(
        fw_compiler=keep, bw_compiler=keep, partition_fn=min_cut_rematerialization_partition
    )
    compiled(xloss.cross_entropy, backend)(*data(50)).backward()
    assert not [n for graph in seen for n in graph.nodes if "xloss" in str(n.target)]
    arguments = [n for n in seen[0].nodes if n.op == "placeholder"]
    (output,) = (n for n in seen[0].nodes if n.op == "output")
    kept = [n for n in output.args[0] if n is not None and n not in arguments]
    assert max(n.meta["val"].numel() for n in kept) < ROWS * 50


@pytest.mark.usefixtures("_no_engine")
def test_a_second_derivative_of_the_formula_is_an_error() -> None:
    """Of a graph that autograd itself follows, which the backend "eager" leaves."""
    z, t = data(50)
    loss = compiled(xloss.cross_entropy, "eager")(z, t)
    with pytest.raises(RuntimeError, match=r"^torch\.compile follows a first derivative"):
        torch.autograd.grad(loss, z, create_graph=True)
