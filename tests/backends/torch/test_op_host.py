"""torch.compile on the host: the compiled engine as operations of PyTorch's, or plain ones."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from itertools import product
from pathlib import Path
from typing import Any

import pytest

import expected
import xloss
from emulated import emulated
from nightly import core
from torch_cases import compiled, graphs, torch
from xloss.engines.cpu import engine as cpu

pytest.importorskip("numba", reason="the engine is Numba's: pip install 'xloss[fast]'")
from xloss.backends.torch import custom_op

ROWS, FEW, MANY = 7, 5, 150  # numbers of classes on both sides of 96


def data(classes: int, dtype: str = "float32", soft: bool = False) -> tuple[Any, Any]:
    shape = (ROWS, classes)
    z = torch.from_numpy(expected.inputs("cross_entropy", shape)).to(getattr(torch, dtype))
    t = expected.soft(shape) if soft else expected.labels(ROWS, classes)
    return z.requires_grad_(), torch.from_numpy(t)


# Numbers that every dtype holds.
SAMPLE, WHERE = torch.arange(ROWS) / 8, torch.arange(ROWS) != 2
WEIGHT = {classes: torch.arange(1, classes + 1) / 256 for classes in (FEW, MANY)}


@pytest.mark.parametrize(
    ("dtype", "classes", "soft", "chosen"),
    [
        ("float32", FEW, False, {"label_smoothing": 0.125, "z_loss": 0.0625, "softcap": 4.0}),
        ("bfloat16", FEW, True, {"reduction": "none"}),
        ("float32", FEW, False, {"normalizer": torch.tensor(3.0), "z_loss": 0.5}),
        ("float64", FEW, False, {"weight": WEIGHT[FEW], "sample_weight": SAMPLE}),
        ("float32", MANY, False, {"ignore_index": 3}),
        ("float32", MANY, False, {"normalizer": 3.0, "reduction": "mean"}),
        ("float16", MANY, True, {"where": WHERE, "weight": WEIGHT[MANY], "label_smoothing": 0.5}),
        ("float64", MANY, True, {"reduction": "sum"}),
    ],
)
def test_the_same_bits_by_the_same_engine(
    dtype: str, classes: int, soft: bool, chosen: dict[str, Any], wanted: dict[str, list[Any]]
) -> None:
    """Value and gradient, recorded and closed form, and without a gradient.

    Those of the engine itself are held to the oracle by the suite.
    """
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


@pytest.mark.parametrize(
    ("classes", "soft", "reduction", "saves"),
    [
        (FEW, False, "mean", "gradient"),
        (FEW, False, "sum", "nothing"),
        (MANY, False, "none", "stats"),
        (MANY, True, "mean", "stats"),
        (MANY, True, "sum", "launch"),
    ],
)
def test_pytorch_s_own_checks(classes: int, soft: bool, reduction: str, saves: str) -> None:
    """Schema, autograd registration, fake kernel and the compiler's view, by opcheck."""
    z, t = data(classes, "bfloat16" if soft else "float64", soft=soft)
    weighed = (WEIGHT[classes], SAMPLE, WHERE) if classes == MANY else (None, None, None)
    numbers = (None, None if soft else -100, 0.125, 0.0625, 5.0, reduction)
    operations = torch.ops.xloss
    torch.library.opcheck(operations.cross_entropy.default, (z, t, *weighed, *numbers, saves))
    plain = (z.detach(), t, *weighed, *numbers)
    loss, kept = operations.cross_entropy(*plain, saves)
    for factor in (1.0, 0.5):
        up = torch.full_like(loss, factor)
        back = (up, kept, *plain, saves)
        torch.library.opcheck(operations.cross_entropy_backward.default, back)
    torch.library.opcheck(operations.cross_entropy_and_gradient.default, (up, *plain))


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


def test_no_rows() -> None:
    z, y = torch.empty(0, FEW, requires_grad=True), torch.empty(0, dtype=torch.int64)
    got = compiled(xloss.cross_entropy)(z, y)
    assert got == 0
    assert torch.autograd.grad(got, z)[0].shape == z.shape


def test_bad_and_ignored_labels() -> None:
    """No value of a graph is read to raise: a bad label's row is NaN, an ignored one's 0."""
    z, y = torch.zeros(3, 4), torch.tensor([1, 4, -100])
    got = compiled(lambda z, y: xloss.cross_entropy(z, y, reduction="none"))(z, y)
    assert got.isnan().tolist() == [False, True, False]
    assert got[2] == 0


Y = torch.arange(6).reshape(2, 3)
# Logits whose classes, or rows, lie apart, or which are one row; labels, axis.
STRIDED: dict[str, tuple[Any, Any, int]] = {
    "axis 1": (torch.randn(2, MANY, 3), Y, 1),
    "transposed": (torch.randn(3, 2, 7).transpose(0, 1), Y, -1),
    "every second": (torch.randn(2, 3, 2 * MANY)[..., ::2], Y, -1),
    "one row for all": (torch.randn(1, 1, 7).expand(2, 3, 7), Y, -1),
}


@pytest.mark.filterwarnings("ignore:`torch.jit.script")  # inductor's own import
@pytest.mark.parametrize(
    ("gpu", "name"),  # on a GPU by day: columns, which have kernels of their own, and a row again
    core(
        product((False, True), STRIDED),
        lambda gpu, name: not gpu or name in ("axis 1", "one row for all"),
    ),
)
def test_strides(name: str, gpu: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gradient lies as the compiler was told, which an operation that says otherwise breaks."""
    x, y, axis = STRIDED[name]
    z = x.detach().requires_grad_()
    # In a cache on disk one device would find the other's graphs.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    if gpu:
        monkeypatch.setattr(custom_op, "DEVICE", "cpu")
    with emulated() if gpu else nullcontext():
        for reduction in ("mean", "none"):
            how = {"axis": axis, "reduction": reduction}

            def loss(z: Any, how: Any = how) -> Any:
                return xloss.cross_entropy(2 * z, y, **how).sum()

            got = compiled(loss, "inductor")
            (mine,) = torch.autograd.grad(got(z), z)
            (want,) = torch.autograd.grad(loss(z), z)
            assert torch.equal(mine, want)
            with xloss.use_engine("generic"):
                torch.testing.assert_close(torch.autograd.grad(got(z), z)[0], want)
        # The operation of a value and its gradient, which knows no reduction's shape: of one.
        both = xloss.value_and_grad(xloss.CrossEntropyLoss(**how))
        direct = compiled(lambda z, y: both(z, y), "inductor")
        (want,) = torch.autograd.grad(xloss.cross_entropy(z, y, **how).sum(), z)
        assert torch.equal(direct(z, y)[1], want)


def operations(function: Callable[..., Any], *given: Any) -> list[str]:
    """Return the engine's operations in the graph that a function is compiled to."""
    seen: list[str] = []

    def look(graph: Any, _: Any) -> Any:
        seen.extend(str(n.target) for n in graph.graph.nodes if "xloss" in str(n.target))
        return graph.forward

    compiled(function, look)(*given)
    return [name for name in seen if "formula" not in name]


def test_what_is_left_to_plain_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other losses, soft targets that want a gradient, labels of another width; no engine here.

    An operation has no rule of torch.func's derivatives either.
    """
    z, y = data(FEW)
    soft, wide = z.detach().softmax(-1), y.to(torch.uint64)
    assert operations(xloss.cross_entropy, z, wide) == ["xloss.cross_entropy.default"]
    assert len(operations(xloss.value_and_grad(xloss.cross_entropy), z, soft)) == 1
    assert operations(lambda z: xloss.cross_entropy(z, wide, ignore_index=2**64 - 100), z) == []
    assert operations(xloss.focal_loss, z, y) == []
    assert operations(torch.func.grad(lambda z: xloss.cross_entropy(z, y)), z.detach()) == []
    assert operations(xloss.value_and_grad(xloss.cross_entropy, (0, 1)), z, soft) == []
    assert operations(xloss.cross_entropy, z, soft.requires_grad_()) == []
    with torch.no_grad():
        assert len(operations(xloss.cross_entropy, z, soft)) == 1
    monkeypatch.setattr(cpu, "unavailable", lambda: "no Numba")
    assert operations(xloss.cross_entropy, z, y) == []


def test_an_engine_asked_for(wanted: dict[str, list[Any]]) -> None:
    """What is compiled under use_engine holds plain operations; what runs under it obeys."""
    z, y = data(FEW)
    with xloss.use_engine("generic"):
        assert operations(xloss.cross_entropy, z, y) == []
    got = compiled(xloss.cross_entropy)
    want = got(z, y)
    assert len(wanted["cpu"]) == 1
    with xloss.use_engine("generic"):
        torch.testing.assert_close(got(z, y), want, rtol=2e-7, atol=0)
    assert len(wanted["cpu"]) == 1
    with xloss.use_engine("cpu"):
        assert torch.equal(got(z, y), want)
    with xloss.use_engine("cuda"), pytest.raises(xloss.EngineUnavailable, match=r"^engine 'cuda'"):
        got(z, y)


# ---- Where no compiled engine is -----------------------------------------------------------------


@pytest.mark.usefixtures("_no_engine")
def test_the_formula_keeps_nothing_of_the_logits_size_for_backward() -> None:
    """What the value's graph hands over is the arguments and a few numbers a row, no operation."""
    z, y = data(50)
    seen = graphs(xloss.cross_entropy, z, y)
    assert not [n for graph in seen for n in graph.nodes if "xloss" in str(n.target)]
    arguments = [n for n in seen[0].nodes if n.op == "placeholder"]
    (output,) = (n for n in seen[0].nodes if n.op == "output")
    kept = [n for n in output.args[0] if n is not None and n not in arguments]
    assert max(n.meta["val"].numel() for n in kept) < z.numel()


@pytest.mark.usefixtures("_no_engine")
def test_a_second_derivative_of_the_formula_is_an_error() -> None:
    """Of a graph that autograd itself follows, which the backend "eager" leaves."""
    z, y = data(50)
    loss = compiled(xloss.cross_entropy, "eager")(z, y)
    with pytest.raises(RuntimeError, match=r"^torch\.compile follows a first derivative"):
        torch.autograd.grad(loss, z, create_graph=True)
