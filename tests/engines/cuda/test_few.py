"""Few rows on the CUDA engine: one launch, its last block adds up; which calls are alike."""

from __future__ import annotations

from math import fsum
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import xloss
from emulated import assert_same, both, emulated, inputs
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
    "weighted": {"weight": torch.linspace(0.5, 2, 40)},
    "ignored": {"ignore_index": 3},
}


@pytest.mark.parametrize("rows", [1, 33, 300])
@pytest.mark.parametrize("options", OPTIONS)
def test_one_launch_gives_the_bits_of_three(options: str, rows: int) -> None:
    """In a graph's capture rows and sums are launched apart; blocks may finish in any order."""
    z, y = inputs(rows, 40)
    made = []
    for capturing, backward in ((True, False), (False, False), (False, True)):
        with emulated() as gpu:
            gpu.home.capturing, gpu.backward = capturing, backward
            results = both(z, y, **OPTIONS[options])
            assert ("SUMS" in dict(gpu.launches[-1][0])) == capturing
            made.append((*results, xloss.cross_entropy(z, y, **OPTIONS[options])))
            assert capturing or len(gpu.launches) == 2
    for one in made[1:]:
        assert_same(one, made[0])


@pytest.mark.parametrize("rows", [33, 1024, 1025])
def test_the_sum_is_that_of_the_rows(rows: int) -> None:
    z, y = inputs(rows, 40)
    with emulated() as gpu:
        each = xloss.cross_entropy(z, y, reduction="none")
        total = xloss.cross_entropy(z, y, reduction="sum")
        assert len(gpu.launches) == (2 if rows <= 1024 else 3)
    exact = fsum(each.tolist())
    assert abs(float(total) - exact) <= abs(exact) * 2**-24


@pytest.mark.parametrize("classes", [40, 8203, 40000])
def test_the_counter_is_ready_for_the_next_launch(classes: int) -> None:
    """Rows that blocks share, too: every block of a cluster counts."""
    z, y = inputs(5, classes)
    with emulated() as gpu:
        first = [xloss.cross_entropy(z, y) for _ in range(3)]
        assert len(gpu.launches) == 3
        gpu.home.capturing = True
        apart = xloss.cross_entropy(z, y)
    assert first[0] == first[1] == first[2] == apart


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
