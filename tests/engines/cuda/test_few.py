"""Few rows on the CUDA engine: one launch, its last block adds up; which calls are alike."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import xloss
from emulated import assert_near, assert_same, both, emulated, expected, inputs
from xloss.backends import fingerprints
from xloss.backends.cupy.backend import look

torch = pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
from torch.autograd import forward_ad  # noqa: E402

# PyTorch's own import, with its forward mode.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")

OPTIONS: dict[str, dict[str, Any]] = {
    "mean": {},
    "sum": {"reduction": "sum"},
    "normalizer": {"normalizer": torch.tensor(3.0)},
    "weighted": {"weight": torch.linspace(0.5, 2, 21)},
    "ignored": {"ignore_index": 3},
}
# Few rows, of which the last launch adds up many; rows that blocks share; many; pixels.
SHAPES = [
    *(("float32", shape, options) for shape in ((1, 21), (300, 21)) for options in OPTIONS),
    *(("float32", shape, "mean") for shape in ((5, 8203), (5, 40000), (1025, 21))),
    *(("float32", (3, 21, 20, 30), options) for options in ("mean", "sum")),
    *(("bfloat16", (3, 21, 20, 30), options) for options in ("mean", "sum", "ignored")),
]


@pytest.mark.parametrize(("kind", "shape", "options"), SHAPES)
def test_the_sum_is_exact_and_the_same_whoever_adds(
    kind: str, shape: tuple[int, ...], options: str
) -> None:
    """In a graph's capture a launch of its own adds up; blocks may finish in any order."""
    given = {**OPTIONS[options], "axis": 1 if len(shape) > 2 else -1}
    z, y = inputs(*shape, kind=kind, axis=given["axis"])
    made = []
    for capturing, backward in ((True, False), (False, False), (False, True)):
        with emulated() as gpu:
            gpu.home.capturing, gpu.backward = capturing, backward
            results = both(z, y, **given)
            one = len(gpu.launches) == 1
            for _ in range(2):  # the counter is ready for the next launch
                value = xloss.cross_entropy(z, y, **given)
            assert ("SUMS" in dict(gpu.launches[-1][0])) == (capturing or shape[0] == 1025)
            assert len(shape) > 2 or one == (not capturing and shape[0] < 1025)
            leaf = z.clone().requires_grad_()
            recorded = xloss.cross_entropy(leaf, y, **given)
            (2 * recorded).backward()
        made.append((*results, value, recorded.detach(), leaf.grad))
    for one in made[1:]:
        assert_same(one, made[0])
    want, slope = expected(z, y, **given)
    loss, grad, value, recorded, doubled = made[0]
    assert value == recorded == loss
    assert_near(loss, want, 1 if z.numel() > 21 * 300 else 4)
    assert_near(grad, slope)
    assert_near(doubled, 2 * slope, 6)


def test_an_option_that_only_equals_one_that_was_taken_is_looked_at() -> None:
    z, y = inputs(8, 40)
    taken: dict[str, Any] = {"axis": 1, "ignore_index": 1, "label_smoothing": 0.0}
    bad = [("axis", True), ("ignore_index", True), ("label_smoothing", False)]
    with emulated():
        xloss.cross_entropy(z, y, **taken)
        for name, value in (*bad, ("label_smoothing", [0.1])):
            with pytest.raises(TypeError, match=name):
                xloss.cross_entropy(z, y, **{**taken, name: value})
        with pytest.raises(IndexError, match="label 41"):
            xloss.cross_entropy(z, y.fill_(41), validate=True)


def test_what_is_not_alike() -> None:
    """Views, subclasses, other engines and wanted gradients are seen though shapes are the same."""
    z, y = inputs(8, 40)
    with emulated() as gpu:
        want = xloss.cross_entropy(z, y)
        count = len(gpu.launches)
        by_kernel = torch.cat([z, z], -1)[:, :40], z.T.contiguous().T
        their_memory_holds_the_negative = torch._neg_view(-z), torch.complex(z, -z).conj().imag
        for x in (*by_kernel, *their_memory_holds_the_negative):
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


def test_what_is_remembered_holds_no_array_and_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "_MAX_CALLS", 3)
    with emulated():
        for rows in range(1, 9):
            xloss.cross_entropy(*inputs(rows, 40))
            assert all(call.operands is None for call in fingerprints._calls.values())
        assert len(fingerprints._calls) <= 3


def test_arrays_of_cupy_are_told_apart() -> None:
    """By all that a launch depends on; the arrays themselves need a GPU."""

    def played(kind: str, shape: tuple[int, ...], gpu: int = 0, whole: bool = True) -> Any:
        device, flags = SimpleNamespace(id=gpu), SimpleNamespace(c_contiguous=whole)
        return SimpleNamespace(dtype=np.dtype(kind), shape=shape, device=device, flags=flags)

    x, t = played("f4", (2, 3)), played("i8", (2,))
    key = look(x, t)
    assert key == look(played("f4", (2, 3)), t)
    assert hash(key) is not None
    others = (played("f8", (2, 3)), played("f4", (3, 3)), played("f4", (2, 3), gpu=1))
    assert len({key, *(look(o, t) for o in others)}) == 4
    assert look(played("f4", (2, 3), whole=False), t) is None
    assert look(x, np.zeros(2, np.int64)) is None
