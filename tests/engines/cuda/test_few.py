"""Few rows on the CUDA engine: one launch, its last block adds up; calls alike, planned once."""

from __future__ import annotations

from math import fsum
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import xloss
from emulated import COMPILER, emulated
from xloss.backends import fingerprints
from xloss.backends.cupy.backend import look
from xloss.engines.cuda import engine as cuda

torch = pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
from torch.autograd import forward_ad  # noqa: E402

pytestmark = [
    pytest.mark.skipif(
        COMPILER is None, reason="no g++ here, which compiles the kernels for the host"
    ),
    # PyTorch's own import, with its forward mode.
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated"),
]

both = xloss.value_and_grad(xloss.cross_entropy)
OPTIONS: dict[str, dict[str, Any]] = {
    "mean": {},
    "sum": {"reduction": "sum"},
    "normalizer": {"normalizer": torch.tensor(3.0)},
    "weighted": {"weight": torch.linspace(0.5, 2, 40)},
    "ignored": {"ignore_index": 3},
}


def inputs(rows: int, kind: Any = torch.float32) -> tuple[Any, Any]:
    draw = torch.Generator().manual_seed(rows)
    z = torch.randn(rows, 40, generator=draw).mul(4).to(kind)
    return z, torch.randint(0, 40, (rows,), generator=draw)


@pytest.mark.parametrize("rows", [1, 33, 300])
@pytest.mark.parametrize("options", OPTIONS)
def test_one_launch_gives_the_bits_of_three(options: str, rows: int) -> None:
    """In a graph's capture rows and sums are launched apart; blocks may finish in any order."""
    z, y = inputs(rows)
    made = []
    for capturing, backward in ((True, False), (False, False), (False, True)):
        with emulated() as gpu:
            gpu.home.capturing, gpu.backward = capturing, backward
            loss, grad = both(z, y, **OPTIONS[options])
            assert ("SUMS" in dict(gpu.launches[-1][0])) == capturing
            made.append((loss, grad, xloss.cross_entropy(z, y, **OPTIONS[options])))
            assert capturing or len(gpu.launches) == 2
    for one in made[1:]:
        for a, b in zip(one, made[0], strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("rows", [33, 1024, 1025])
def test_the_sum_is_that_of_the_rows(rows: int) -> None:
    z, y = inputs(rows)
    with emulated() as gpu:
        each = xloss.cross_entropy(z, y, reduction="none")
        total = xloss.cross_entropy(z, y, reduction="sum")
        assert len(gpu.launches) == (2 if rows <= 1024 else 3)
    exact = fsum(each.tolist())
    assert abs(float(total) - exact) <= abs(exact) * 2**-24


def test_soft_targets_weigh_what_their_rows_do() -> None:
    z, _ = inputs(70)
    t = torch.softmax(torch.randn(70, 40), -1) * torch.linspace(0, 2, 70)[:, None]
    with emulated() as gpu:
        loss = xloss.cross_entropy(z, t)
        assert len(gpu.launches) == 1
    with xloss.use_engine("generic"):
        want = xloss.cross_entropy(z.double(), t.double())
    torch.testing.assert_close(loss.double(), want, rtol=4 * 2**-23, atol=0.0)


@pytest.mark.parametrize("classes", [40, 8203, 40000])
def test_the_counter_is_ready_for_the_next_launch(classes: int) -> None:
    """Rows that blocks share, too: every block of a cluster counts."""
    z, y = torch.randn(5, classes), torch.arange(5)
    with emulated() as gpu:
        first = [xloss.cross_entropy(z, y) for _ in range(3)]
        assert len(gpu.launches) == 3
        gpu.home.capturing = True
        apart = xloss.cross_entropy(z, y)
    assert first[0] == first[1] == first[2] == apart


def test_a_stream_has_its_own_counter() -> None:
    z, y = inputs(8)
    with emulated() as gpu:
        streams = []
        for stream in (0, 7, 0):
            gpu.home.stream = lambda index, stream=stream: stream
            xloss.cross_entropy(z, y)
            streams.append(gpu.packed[-1][-16:-8])  # the address of the counter
    assert streams[0] == streams[2] != streams[1]


def test_calls_alike_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    z, y = inputs(8)
    with emulated():
        for _ in range(2):
            leaf = z.clone().requires_grad_()
            xloss.cross_entropy(leaf, y).backward()
            want = xloss.cross_entropy(z, y)

        def refuse(*_: Any, **__: Any) -> None:
            raise AssertionError("looked at again")

        monkeypatch.setattr("xloss.losses._check.class_targets", refuse)
        monkeypatch.setattr(cuda, "Launcher", refuse)
        other = -z  # other values in other memory
        again = other.clone().requires_grad_()
        loss = xloss.cross_entropy(again, y.flip(0))
        loss.backward()
        assert xloss.cross_entropy(other, y.flip(0)) == loss
        assert xloss.cross_entropy(z, y) == want
        monkeypatch.undo()
        value, grad = both(other, y.flip(0))
    assert torch.equal(loss.detach(), value)
    assert again.grad is not None
    assert torch.equal(again.grad, grad)


def test_an_option_that_only_equals_one_that_was_taken_is_looked_at() -> None:
    z, y = inputs(8)
    with emulated():
        xloss.cross_entropy(z, y, axis=1, ignore_index=1, label_smoothing=0.0)
        with pytest.raises(TypeError, match="axis"):
            xloss.cross_entropy(z, y, axis=True, ignore_index=1, label_smoothing=0.0)
        with pytest.raises(TypeError, match="ignore_index"):
            xloss.cross_entropy(z, y, axis=1, ignore_index=True, label_smoothing=0.0)
        with pytest.raises(TypeError, match="label_smoothing"):
            xloss.cross_entropy(z, y, axis=1, ignore_index=1, label_smoothing=False)
        with pytest.raises(TypeError, match="label_smoothing"):
            xloss.cross_entropy(z, y, label_smoothing=[0.1])
        with pytest.raises(ValueError, match="label_smoothing"):
            xloss.cross_entropy(z, y, label_smoothing=float("nan"))
        xloss.cross_entropy(z, y)
        with pytest.raises(IndexError, match="label 41"):
            xloss.cross_entropy(z, y.fill_(41), validate=True)


def test_what_is_not_alike() -> None:
    """Views, subclasses, other engines and wanted gradients are seen though shapes are the same."""
    z, y = inputs(8)
    with emulated() as gpu:
        want = xloss.cross_entropy(z, y)
        count = len(gpu.launches)
        for x in (torch.cat([z, z], -1)[:, :40], z.T.contiguous().T):
            torch.testing.assert_close(xloss.cross_entropy(x, y), want, rtol=1e-6, atol=0.0)
        for x in (torch._neg_view(-z), torch.complex(z, -z).conj().imag):  # their memory holds -z
            torch.testing.assert_close(xloss.cross_entropy(x, y), want, rtol=1e-6, atol=0.0)
        with xloss.use_engine("generic"):
            torch.testing.assert_close(xloss.cross_entropy(z, y), want, rtol=1e-6, atol=0.0)
        assert len(gpu.launches) == count + 2
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(z, torch.ones_like(z))
            moved = forward_ad.unpack_dual(xloss.cross_entropy(dual, y)).tangent
            assert moved is not None
        soft = torch.softmax(z, -1)
        xloss.cross_entropy(z, soft)
        xloss.cross_entropy(z, soft.requires_grad_()).backward()
        assert soft.grad is not None
        parameter = torch.nn.Parameter(z)
        xloss.cross_entropy(parameter, y).backward()
        assert parameter.grad is not None


def test_the_class_axis_in_front() -> None:
    z, y = inputs(8)
    with emulated():
        want, grad = both(z, y)
        front = z.T.contiguous()
        for _ in range(2):
            leaf = front.clone().requires_grad_()
            loss = xloss.cross_entropy(leaf, y, axis=0)
            loss.backward()
            assert leaf.grad is not None
            torch.testing.assert_close(loss.detach(), want, rtol=1e-6, atol=0.0)
            torch.testing.assert_close(leaf.grad.T, grad, rtol=1e-5, atol=1e-9)


def test_what_is_remembered_holds_no_array_and_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "_MAX_CALLS", 3)
    with emulated():
        for rows in range(1, 9):
            xloss.cross_entropy(*inputs(rows))
            assert all(call.operands is None for call in fingerprints._calls.values())
        assert len(fingerprints._calls) <= 3


def test_arrays_of_cupy_are_told_apart() -> None:
    """By all that a launch depends on; the arrays themselves need a GPU."""

    class Played:
        def __init__(self, kind: str, shape: tuple[int, ...], gpu: int = 0, whole: bool = True):
            self.dtype, self.shape = np.dtype(kind), shape
            self.device, self.flags = SimpleNamespace(id=gpu), SimpleNamespace(c_contiguous=whole)

    x, t = Played("f4", (2, 3)), Played("i8", (2,))
    key = look(x, t)
    assert key == look(Played("f4", (2, 3)), t)
    assert hash(key) is not None
    others = (Played("f8", (2, 3)), Played("f4", (3, 3)), Played("f4", (2, 3), gpu=1))
    assert len({key, *(look(o, t) for o in others)}) == 4
    assert look(Played("f4", (2, 3), whole=False), t) is None
    assert look(x, np.zeros(2, np.int64)) is None
