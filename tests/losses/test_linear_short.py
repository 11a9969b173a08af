"""linear_cross_entropy of 16-bit features and weight: they multiply as they are.

What each option gives is held by the suite's family "linear" in every one of its cases. What may be
off beside, of p significant bits: each logit's gradient is rounded once, by 2^-p of itself at most,
so that a sum of products is off by 2^-p of the sum of its terms' sizes; the result is rounded once
more, by 2^-p of itself. On the host a block's product is rounded as well.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import xloss
from judged import hold
from linear_cases import W, X, Y, check, expected
from linear_short import U, allowed, cupy_cores, gradients, large, on, tensor
from spread import Alone
from xloss.core import linear as cutting
from xloss_conformance.cases import catalogue
from xloss_conformance.model import DTYPES

torch = pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
__all__ = ["large"]  # a fixture
PLACES = pytest.mark.parametrize("place", ["cuda", "generic", "host"])
KINDS = pytest.mark.parametrize("kind", U)
# Most cases ask for float32 alone, or for float64 as well.
CASES = [replace(case, dtypes=DTYPES) for case in catalogue() if case.family == "linear"]


@pytest.mark.parametrize("place", ["cuda", "generic", "host", "no tensor cores"])
@KINDS
@pytest.mark.parametrize("gradient", ["closed form", "autograd"])
def test_every_case_of_the_suite(place, kind, gradient):
    with on(place) as gpu:
        assert hold("torch" if place == "host" else "emulated", kind, CASES, gradient) > 15
    assert gpu is None or place == "generic" or gpu.launches


def test_every_case_of_the_suite_through_cublas():
    """By addresses and steps: cuBLAS reads columns where CuPy has rows."""
    with cupy_cores() as here:
        assert hold("standin", "float16", CASES) > 15
    assert here.gpu.launches
    assert here.blas.products


def exact_blocks(large: Any, rows: int) -> list[np.ndarray]:
    """Each block's share of the weight's gradient, in float64."""
    x, w, y, _ = large
    g = xloss.value_and_grad(xloss.cross_entropy)(x.double() @ w.double().T, y)[1]
    return [(g[a : a + rows].T @ x[a : a + rows].double()).numpy() for a in range(0, 96, rows)]


@PLACES
@pytest.mark.parametrize("rows", [16, 96])
def test_a_weight_too_large_for_float32_is_summed_in_its_own_dtype(place, rows, large, monkeypatch):
    """The sum is rounded once a block, by 2^-8 of itself: of one block not more than any result."""
    x, w, y, want = large
    monkeypatch.setattr(cutting, "GPU_BUDGET_BYTES", 2**13)
    # Five rows at a time: their gradients go where the logits of none lie that are yet to be read.
    monkeypatch.setattr(cutting, "DEVICE", 5 * 1003)
    monkeypatch.setattr(cutting, "WEIGHT_CHUNK", 5 * 1003)
    with on(place):
        _, (gx, gw) = gradients(x, w, y, block_rows=rows)
    so_far = np.abs(np.cumsum(exact_blocks(large, rows), axis=0)).sum(0)
    u = U["bfloat16"]
    off = 1.02 * (u * (want.terms["weight"] + so_far) + want.off["weight"])
    check(gw.double(), want.grads["weight"], off, "weight")
    off = 1.01 * (want.off["x"] + u * (want.terms["x"] + 2 * np.abs(want.grads["x"])))
    check(gx.double(), want.grads["x"], off, "x")


@pytest.mark.parametrize("place", ["cuda", "generic"])
def test_float16_keeps_what_a_loss_scale_would_lift(place, monkeypatch):
    """The label is 18 ahead: e^-18 of the others is below half of float16's least number, 2^-24.

    They are lifted before they are rounded, and neither gradient is rounded before the upstream has
    multiplied it, though there be no room for its sum in float32.
    """
    monkeypatch.setattr(cutting, "GPU_BUDGET_BYTES", 2**8)
    x = torch.full((8, 4), 0.5, dtype=torch.float16).requires_grad_()
    w = torch.zeros(1024, 4, dtype=torch.float16)
    w[0] = 9.0
    w.requires_grad_()
    with on(place):
        loss = xloss.linear_cross_entropy(x, w, torch.zeros(8, dtype=torch.int64), block_rows=3)
        (loss * 2.0**20).backward()
    p = np.exp(-18.0) / (1 + 1023 * np.exp(-18.0)) * 2.0**20
    want = np.full((1024, 4), 0.5 * p)
    want[0] *= -1023
    # Rounded twice by 2^-11, after float32's error of a few times 2^-24.
    np.testing.assert_allclose(w.grad.double(), want, rtol=1.01 * 2.0**-10)
    np.testing.assert_allclose(x.grad.double(), -9 * 1023 * p / 8, rtol=1.01 * 2.0**-10)


@pytest.mark.parametrize("sample", [None, 2.0**20, 2.0**-20])
def test_float16_is_lifted_by_its_weights(sample):
    """Neither infinite nor lost, whatever all rows are multiplied by."""
    weights = None if sample is None else torch.full((7,), sample)
    arrays = [tensor(a, "float16") for a in (X, W, Y)]
    with on("cuda"):
        _, (gx, gw) = gradients(*arrays, sample_weight=weights, normalizer=7 * (sample or 1.0))
    want = expected(X, W, Y, None, {"normalizer": 7.0})
    for n, g in (("x", gx), ("weight", gw)):
        check(g.double(), want.grads[n], allowed(want, n, "float16"), n)


@pytest.mark.parametrize("up", [1.0, 1 / 3, -2.0])
@pytest.mark.parametrize("place", ["cuda", "host"])
def test_an_upstream_is_not_rounded_before_it_scales(place, up, large, monkeypatch):
    """As a 0-d tensor it would be rounded to 8 bits, and err in every entry to the same side."""
    x, w, y, _ = large
    monkeypatch.setattr(cutting, "GPU_BUDGET_BYTES", 2**14)
    monkeypatch.setattr("xloss.backends.torch.linear.WEIGHT_CHUNK", 1000)
    a, b = x.clone().requires_grad_(), w.clone().requires_grad_()
    with on(place):
        _, grads = gradients(x, w, y, block_rows=24)
        (xloss.linear_cross_entropy(a, b, y, block_rows=24) * up).backward()
    for leaf, g in zip((a, b), grads, strict=True):
        assert leaf.grad.dtype == torch.bfloat16
        scaled = (g.double() * np.float32(up)).bfloat16()
        assert torch.equal(leaf.grad, scaled)


@KINDS
def test_a_compiler_is_told_the_dtypes_of_the_gradients(kind):
    """bfloat16 of bfloat16; float32 of float16, which the upstream is yet to multiply."""
    import xloss.backends.torch.linear  # noqa: F401  # registers the operation

    x, w = (tensor(a, kind) for a in (X, W))
    options = (None,) * 3 + (-100, 0.0, 0.0, None, "mean", None, None, [True, True, False, False])
    given = (x, torch.tensor(Y), *(None,) * 4, w, *options, None)
    operation = torch.ops.xloss.linear_loss.default
    torch.library.opcheck(operation, given, test_utils=("test_faketensor",))
    want = torch.bfloat16 if kind == "bfloat16" else torch.float32
    assert [g.dtype for g in operation(*given)[1:3]] == [want, want]


def test_ranks_add_up_in_float32(monkeypatch):
    """A rank's share of the features' gradient is rounded after the exchange, not before."""
    seen = []

    class Seen(Alone):
        def total(self, x: Any) -> Any:
            seen.append(x.dtype)
            return x

    monkeypatch.setattr("xloss.backends.process_groups.of", lambda group, cx: Seen())
    monkeypatch.setattr(cutting, "GPU_BUDGET_BYTES", 2**8)
    want = expected(X, W, Y, None, {})
    with on("cuda"):
        _, (gx, gw) = gradients(
            *(tensor(a, "bfloat16") for a in (X, W, Y)), group=..., block_rows=3
        )
    for n, g in (("x", gx), ("weight", gw)):
        check(g.double(), want.grads[n], allowed(want, n, "bfloat16", roundings=4), n)
    assert torch.bfloat16 not in seen
    assert torch.float32 in seen
