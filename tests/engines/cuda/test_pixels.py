"""The CUDA engine's kernel of pixels: rows side by side whose classes lie apart."""

from __future__ import annotations

from typing import Any

import pytest

from emulated import (
    assert_same,
    at_odd_address,
    both,
    by_row,
    emulated,
    inputs,
)
from nightly import core
from xloss.engines.cuda import call as cuda_call

torch = pytest.importorskip("torch", reason="pip install 'xloss[torch]'")

IMAGE = 26, 22  # pixels: more rows than one launch adds up where they are few


def images(classes: int, kind: str) -> tuple[Any, Any]:
    """Logits with all that a row can be, and labels."""
    z, y = inputs(2, classes, *IMAGE, kind=kind, axis=1)
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
    y[0, 3, ::2] = 0
    y[1, 0, :5] = -100
    y[1, 1, :2] = classes  # no class
    return z, y


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


@pytest.mark.parametrize(
    ("kind", "classes", "odd", "name"), core(CASES, lambda *c: c in (CASES[1], CASES[0], CASES[8]))
)
def test_rows_have_the_bits_of_the_kernel_of_rows(
    kind: str, classes: int, odd: bool, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    z, y = images(classes, kind)
    z = at_odd_address(z) if odd else z
    given: dict[str, Any] = {"ignore_index": 1} if name == "ignored" else {}
    if name == "weighed":
        weight = torch.linspace(0, 1, classes).to(z.dtype)
        given = {"weight": weight, "where": torch.arange(y.numel()).view(y.shape) % 5 > 0}
    made = []
    pairs = 2 if kind != "float32" else 1
    # The gradient's address is even, the logits' may be odd.
    for pixels in (1 if odd else pairs, 0):
        if not pixels:
            monkeypatch.setattr(cuda_call, "rows_of_thread", lambda *_: 0)
        with emulated() as gpu:
            of_mean = both(z, y, axis=1, **given)
            made.append((*by_row(z, y, axis=1, **given), of_mean[1]))
            taken = {dict(c).get("PIXELS", 0) for c, _ in gpu.launches if "SUMS" not in dict(c)}
        assert taken == {pixels}
    assert_same(*made)
    # Threads next to each other have pixels next to each other. Were the gradient's classes side by
    # side, each would write apart from the next: a sixth of the speed.
    assert made[0][1].stride() == z.stride()
    assert torch.isnan(made[0][0]).any()


def test_a_call_alike_at_an_odd_address_is_planned_anew() -> None:
    z, y = inputs(2, 5, 600, kind="bfloat16", axis=1)
    odd = at_odd_address(z)
    with emulated() as gpu:
        made = [both(x, y, axis=1) for x in (z, odd, z, odd)]
        taken = [dict(c)["PIXELS"] for c, _ in gpu.launches if "PIXELS" in dict(c)]
    assert taken == [2, 1, 2, 1]
    for results in made[1:]:
        assert_same(results, made[0])
