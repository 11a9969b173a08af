"""The CUDA engine's kernel of pixels: rows side by side whose classes lie apart."""

from __future__ import annotations

from typing import Any

import pytest

import xloss
from emulated import COMPILER, emulated
from nightly import core
from xloss.engines.cuda import call as cuda_call

torch = pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
pytestmark = pytest.mark.skipif(
    COMPILER is None, reason="no g++ here, which compiles the kernels for the host"
)

both = xloss.value_and_grad(xloss.cross_entropy)
IMAGE = 26, 22  # pixels: more rows than one launch adds up where they are few


def inputs(classes: int, kind: str, odd: bool = False) -> tuple[Any, Any]:
    """Logits with all that a row can be, at an address that no word has where `odd`."""
    draw = torch.Generator().manual_seed(classes)
    z = (torch.randn(2, classes, *IMAGE, generator=draw) * 3).to(getattr(torch, kind))
    rows = z.movedim(1, -1)
    rows[0, 0, 0] = 0.0  # ties
    rows[0, 0, 2] += 9000.0  # far from 0
    rows[0, 0, 4] = torch.inf
    rows[0, 0, 6] = -torch.inf  # no possible class
    rows[0, 1, 1:9] = -torch.inf  # masked classes
    rows[0, 1, 1:9, -2:] = 1.0
    rows[0, 2, 3, 0] = torch.nan
    rows[0, 3, :, 0] += 90.0  # all but nothing beside the maximum
    rows[1, 0, 0, -1] = -0.0
    if odd:
        room = torch.empty(z.numel() + 1, dtype=z.dtype)
        room[1:] = z.flatten()
        z = room[1:].view(z.shape)
    y = torch.randint(0, classes, (2, *IMAGE), generator=draw)
    y[0, 3, ::2] = 0
    y[1, 0, :5] = -100
    y[1, 1, :2] = classes  # no class
    return z, y


def options(name: str, y: Any, classes: int, kind: str) -> dict[str, Any]:
    if name == "weighed":
        draw = torch.Generator().manual_seed(7)
        weight = torch.rand(classes, generator=draw).to(getattr(torch, kind))
        weight[0] = 0.0
        return {"weight": weight, "where": torch.rand(y.shape, generator=draw) > 0.2}
    return {"ignore_index": 1} if name == "ignored" else {}


CASES = [
    ("bfloat16", 21, False, "plain"),
    ("bfloat16", 21, True, "plain"),
    ("bfloat16", 21, False, "weighed"),
    ("bfloat16", 3, False, "ignored"),
    ("bfloat16", 150, False, "plain"),
    ("bfloat16", 150, True, "weighed"),
    ("float16", 21, False, "plain"),
    ("float16", 40, False, "plain"),
    ("float32", 21, False, "plain"),
    ("float32", 21, True, "weighed"),
    ("float32", 150, False, "ignored"),
]


def equal(a: Any, b: Any) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("kind", "classes", "odd", "name"), core(CASES, lambda *c: c in (CASES[1], CASES[0], CASES[8]))
)
def test_rows_have_the_bits_of_the_kernel_of_rows(
    kind: str, classes: int, odd: bool, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    z, y = inputs(classes, kind, odd)
    given = options(name, y, classes, kind)
    made = []
    for pixels in (True, False):
        if not pixels:
            monkeypatch.setattr(cuda_call, "rows_of_thread", lambda *_: 0)
        with emulated() as gpu:
            loss, grad = both(z, y, axis=1, reduction="none", **given)
            _, grad_of_mean = both(z, y, axis=1, **given)
            alone = xloss.cross_entropy(z, y, axis=1, reduction="none", **given)
            leaf = z.detach().requires_grad_()
            xloss.cross_entropy(leaf, y, axis=1, reduction="sum", **given).backward()
            taken = {dict(c).get("PIXELS", 0) for c, _ in gpu.launches if "SUMS" not in dict(c)}
        pairs = 2 if kind != "float32" else 1
        if pixels:  # the gradient's address is even, the logits' may be odd
            assert taken == ({1} if odd else {pairs})
        else:
            assert taken == {0}
        made.append((loss, grad, grad_of_mean, alone, leaf.grad))
    for a, b in zip(*made, strict=True):
        equal(a, b)
    assert made[0][1].stride() == z.stride()
    assert torch.isnan(made[0][0]).any()


@pytest.mark.parametrize("kind", ["bfloat16", "float32"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_sum_is_exact_and_the_same_whoever_adds(kind: str, reduction: str) -> None:
    """Blocks end in any order; in a graph's capture a launch of its own adds up their sums."""
    draw = torch.Generator().manual_seed(3)
    z = (torch.randn(3, 21, 20, 30, generator=draw) * 3).to(getattr(torch, kind))
    y = torch.randint(0, 21, (3, 20, 30), generator=draw)
    y[0, 3:9] = -100
    made = []
    for capturing, backward in ((False, False), (False, True), (True, False)):
        with emulated() as gpu:
            gpu.home.capturing, gpu.backward = capturing, backward
            value = xloss.cross_entropy(z, y, axis=1, reduction=reduction)
            assert len(gpu.launches) == 1 + capturing
            loss, grad = both(z, y, axis=1, reduction=reduction)
            leaf = z.clone().requires_grad_()
            recorded = xloss.cross_entropy(leaf, y, axis=1, reduction=reduction)
            (2 * recorded).backward()
        equal(value, loss)
        equal(value, recorded.detach())
        assert leaf.grad is not None
        made.append((loss, grad, leaf.grad))
    for others in made[1:]:
        for a, b in zip(made[0], others, strict=True):
            equal(a, b)
    wide = z.double().requires_grad_()
    want = torch.nn.functional.cross_entropy(wide, y, reduction=reduction)
    want.backward()
    loss, grad, doubled = made[0]
    eps = torch.finfo(z.dtype).eps
    assert abs(loss.double() - want.detach()) <= 2**-23 * want.detach()
    assert ((grad - wide.grad).abs() <= 4 * eps * wide.grad.abs()).all()
    assert ((doubled - 2 * wide.grad).abs() <= 6 * eps * wide.grad.abs()).all()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_calls_alike_are_planned_once(reduction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(4)
    images = [torch.randn(2, 21, 30, 21, generator=draw).to(torch.bfloat16) for _ in range(3)]
    targets = [torch.randint(-1, 21, (2, 30, 21), generator=draw) for _ in range(3)]

    def made(z: Any, y: Any) -> tuple[Any, ...]:
        given = {"axis": 1, "reduction": reduction, "ignore_index": -1}
        leaf = z.clone().requires_grad_()
        loss = xloss.cross_entropy(leaf, y, **given)
        (first,) = torch.autograd.grad(loss, leaf, retain_graph=True)
        (second,) = torch.autograd.grad(3 * loss, leaf)
        value = xloss.cross_entropy(z, y, **given)
        return *both(z, y, **given), value, loss.detach(), first, second

    alone = []
    for z, y in zip(images, targets, strict=True):
        with emulated():
            alone.append(made(z, y))
    with emulated():
        made(images[0], targets[0])
        monkeypatch.setattr(cuda_call.Launcher, "__init__", None)  # no call is planned again
        for want, z, y in zip(alone, images, targets, strict=True):
            for a, b in zip(want, made(z, y), strict=True):
                equal(a, b)


def test_a_call_alike_at_an_odd_address_is_planned_anew() -> None:
    draw = torch.Generator().manual_seed(5)
    room = torch.randn(2 * 5 * 600 + 1, generator=draw).to(torch.bfloat16)
    y = torch.randint(0, 5, (2, 600), generator=draw)
    even, odd = room[:-1].view(2, 5, 600), room[1:].view(2, 5, 600)
    with emulated() as gpu:
        made = [both(z, y, axis=1) for z in (even, odd, even, odd)]
        taken = [dict(c)["PIXELS"] for c, _ in gpu.launches if "PIXELS" in dict(c)]
    assert taken == [2, 1, 2, 1]
    for a, b in zip(made[0] + made[1], made[2] + made[3], strict=True):
        equal(a, b)


@pytest.mark.parametrize("kind", ["uint8", "int16", "int32", "int64"])
@pytest.mark.parametrize("rows", [1500, 70001])
def test_labels_of_every_type_are_counted(rows: int, kind: str) -> None:
    """By vectors of 16 bytes where a block has its span, one by one at the end."""
    y = (torch.arange(rows) % 7).to(getattr(torch, kind))
    z = torch.zeros(rows, 7)
    with emulated() as gpu:
        _, grad = both(z, y, ignore_index=3)
        assert any("LABELS" in dict(c) and "SUMS" in dict(c) for c, _ in gpu.launches)
    counted = int((y != 3).sum())
    present = grad[y != 3].double().abs().amax(-1)
    assert ((present - 6 / 7 / counted).abs() <= 4 * 2**-23 * 6 / 7 / counted).all()
    assert not grad[y == 3].any()
