"""The CUDA engine's rows of many classes: the same bits whichever way their blocks meet."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import xloss
from libraries import COMPILER
from nightly import core

pytestmark = pytest.mark.skipif(
    COMPILER is None, reason="the kernels are compiled for the host by g++: install it to run this"
)

OPTIONS: dict[str, dict[str, Any]] = {
    "labels": {},
    "weighted": {"weight": 3.0, "z_loss": 0.25},
    "smoothed": {"label_smoothing": 0.1},
    "soft": {"soft": 1},
    "capped": {"softcap": 20.0},
    "masked": {"where": 1},
}


def results(
    capability: int, dtype: str, classes: int, options: dict[str, Any], backward: bool = False
) -> tuple[np.ndarray, ...]:
    import torch

    from emulated import emulated

    draw = np.random.default_rng(classes)
    x = draw.standard_normal((4, classes)) * 3
    x[0, : classes // 2 + 9] = -np.inf
    x[1, -1] = 40.0  # the maximum, in the last block
    x[2] += 20000.0  # far from 0
    y = np.asarray([classes - 1, classes - 1, 5, -100])
    given = dict(options)
    kind = getattr(torch, dtype)
    logits = torch.from_numpy(x).to(kind)
    targets = torch.from_numpy(y)
    if given.pop("soft", 0):
        t = np.zeros_like(x)
        t[range(4), y], t[range(4), classes - 7] = 0.75, 0.25
        targets = torch.from_numpy(t).to(kind)
    if "weight" in given:
        given["weight"] = torch.from_numpy(draw.random(classes)).to(kind)
    if "where" in given:
        given["where"] = torch.tensor([True, False, True, True])
    with emulated(capability) as gpu:
        gpu.backward = backward
        loss, grad = xloss.value_and_grad(xloss.cross_entropy)(
            logits, targets, reduction="none", **given
        )
        # Without the gradient, and from statistics that were kept.
        alone = xloss.cross_entropy(logits, targets, reduction="none", **given)
        leaf = logits.clone().requires_grad_()
        xloss.cross_entropy(leaf, targets, reduction="sum", **given).backward()
        stages = {dict(c).get("STAGE") for c, _ in gpu.launches} - {None}
    if dict(gpu.launches[0][0])["PARTS"] > 1:
        once = {0} if capability >= 90 else {1, 2, 3}
        plain = not options or set(options) <= {"softcap", "where"}
        assert stages == (once | {4, 5} if plain else once)
    assert leaf.grad is not None
    made = loss, grad, alone, leaf.grad
    return tuple(np.asarray(a.detach().double()) for a in made)


# Classes that two, four and eight blocks share, the last vector of 16 bytes not whole.
CASES = [
    *(("float32", 8203, name) for name in OPTIONS),
    ("float32", 32771, "labels"),
    ("float64", 8201, "smoothed"),
    ("bfloat16", 32777, "soft"),
]


# Each compiles some nine kernels for the host.
@pytest.mark.parametrize(
    ("dtype", "classes", "options"), core(CASES, lambda *case: case in (CASES[0], CASES[-1]))
)
def test_one_launch_or_three(dtype: str, classes: int, options: str) -> None:
    loss, grad, alone, recorded = results(90, dtype, classes, OPTIONS[options])
    np.testing.assert_array_equal(alone, loss)
    np.testing.assert_array_equal(recorded, grad)
    assert np.isfinite(grad).all()
    for capability, backward in ((80, False), (90, True), (80, True)):
        again = results(capability, dtype, classes, OPTIONS[options], backward)
        for one, other in zip((loss, grad, alone, recorded), again, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_row_of_float64_has_the_same_bits_in_another_layout() -> None:
    # In float32 a vector's sum is rounded with what its thread put aside: a last bit may differ.
    import torch

    from emulated import emulated

    draw = np.random.default_rng(5)
    x = torch.from_numpy(draw.standard_normal((48, 403)) * 3)
    y = torch.from_numpy(draw.integers(0, 403, 48))
    with emulated() as gpu:
        by_rows = xloss.value_and_grad(xloss.cross_entropy)
        own = by_rows(x, y, reduction="sum")
        apart = by_rows(x.T.contiguous().T, y, reduction="sum")
        groups = {dict(c)["GROUP"] for c, _ in gpu.launches if "GROUP" in dict(c)}
    assert groups == {16, 1}
    np.testing.assert_array_equal(apart[1].numpy(), own[1].numpy())
    np.testing.assert_array_equal(apart[0].numpy(), own[0].numpy())
