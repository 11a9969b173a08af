"""The CUDA engine's rows: the same bits whichever way their threads and blocks meet."""

from __future__ import annotations

from typing import Any

import pytest

from emulated import assert_same, by_row, emulated, inputs
from nightly import core

torch = pytest.importorskip("torch", reason="pip install 'xloss[torch]'")

OPTIONS: dict[str, dict[str, Any]] = {
    "labels": {},
    "weighted": {"weight": 3.0, "z_loss": 0.25},
    "smoothed": {"label_smoothing": 0.1},
    "soft": {"soft": 1},
    "capped": {"softcap": 20.0},
    "masked": {"where": torch.tensor([True, False, True, True])},
    "smoothed, capped": {"label_smoothing": 0.1, "softcap": 5.0},
}


def results(
    capability: int, dtype: str, classes: int, options: dict[str, Any], backward: bool
) -> tuple[Any, ...]:
    z, y = inputs(4, classes, kind=dtype)
    z[0, : classes // 2 + 9] = -torch.inf
    z[1, -1] = 40.0  # the maximum, in the last block
    z[2] += 20000.0  # far from 0
    y[:] = torch.tensor([classes - 1, classes - 1, 5, -100])
    given = dict(options)
    if given.pop("soft", 0):
        t = torch.zeros_like(z)
        t[range(4), y], t[range(4), classes - 7] = 0.75, 0.25
        y = t
    if "weight" in given:
        given["weight"] = torch.linspace(0, 1, classes).to(z.dtype)
    with emulated(capability) as gpu:
        gpu.backward = backward
        made = by_row(z, y, **given)
        stages = {dict(c).get("STAGE") for c, _ in gpu.launches} - {None}
    if dict(gpu.launches[0][0])["PARTS"] > 1:
        once = {0} if capability >= 90 else {1, 2, 3}
        plain = not options or set(options) <= {"softcap", "where"}
        assert stages == (once | {4, 5} if plain else once)
    return made


# Classes of a few lanes, of a block, and that two, four and eight blocks share, the last vector of
# 16 bytes not whole.
CASES = [
    ("float32", 100, "labels"),
    ("float32", 4001, "smoothed, capped"),
    ("float32", 8203, "labels"),
    ("float32", 8203, "soft"),
    *(("float32", 8203, name) for name in OPTIONS if name not in ("labels", "soft")),
    ("float32", 32771, "labels"),
    ("bfloat16", 32777, "soft"),
    ("float64", 8201, "smoothed"),
]


# Each compiles some nine kernels for the host; eight blocks a row take several times two's time.
@pytest.mark.parametrize(
    ("dtype", "classes", "options"), core(CASES, lambda *case: case in CASES[:4])
)
def test_one_launch_or_three(dtype: str, classes: int, options: str) -> None:
    made = [
        results(capability, dtype, classes, OPTIONS[options], backward)
        for capability, backward in ((90, False), (80, False), (90, True), (80, True))
    ]
    loss, grad, alone, recorded = made[0]
    assert_same((alone, recorded), (loss, grad))
    assert torch.isfinite(grad).all()
    for again in made[1:]:
        assert_same(again, made[0])
