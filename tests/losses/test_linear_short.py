"""linear_cross_entropy of 16-bit features and weight: they multiply as they are.

What each option gives is held by the suite's family "linear" in every one of its cases.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import xloss
from judged import hold
from linear_cases import W, X, Y, held
from linear_short import cupy_cores, gradients, large, on, tensor
from spread import Alone
from xloss.core import linear as cutting
from xloss_conformance.cases import catalogue
from xloss_conformance.model import DTYPES
from xloss_conformance.rounding import numpy_dtype

torch = pytest.importorskip("torch", reason="pip install 'xloss[torch]'")
__all__ = ["large"]  # a fixture
PLACES = pytest.mark.parametrize("place", ["cuda", "generic", "host"])
KINDS = pytest.mark.parametrize("kind", ["bfloat16", "float16"])
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


def on_host(grads: Any) -> dict[str, np.ndarray]:
    """The gradients to features and weight."""
    kinds = (numpy_dtype(str(g.dtype).removeprefix("torch.")) for g in grads)
    arrays = (g.float().numpy().astype(kind) for g, kind in zip(grads, kinds, strict=True))
    return dict(zip(("x", "weight"), arrays, strict=True))


@PLACES
@pytest.mark.parametrize("rows", [16, 96])
def test_a_weight_too_large_for_float32_is_summed_in_its_own_dtype(place, rows, large, monkeypatch):
    """The sum is rounded once a block, by 2^-8 of itself: of one block not more than any result.

    So is each logit's gradient, by 2^-8 of itself, and the result; on the host a block's product.
    """
    x, w, y = large
    monkeypatch.setattr(cutting, "GPU_BUDGET_BYTES", 2**13)
    # Five rows at a time: their gradients go where the logits of none lie that are yet to be read.
    monkeypatch.setattr(cutting, "DEVICE", 5 * 1003)
    monkeypatch.setattr(cutting, "WEIGHT_CHUNK", 5 * 1003)
    with on(place):
        _, (gx, gw) = gradients(x, w, y, block_rows=rows)
    x, w = x.double(), w.double()
    _, g = xloss.value_and_grad(xloss.cross_entropy)(x @ w.T, y)
    shares = torch.stack([g[a : a + rows].T @ x[a : a + rows] for a in range(0, 96, rows)])
    # What float32 is off is far below what is added here.
    off = 1.03 * 2.0**-8 * (g.abs().T @ x.abs() + shares.cumsum(0).abs().sum(0))
    assert (abs(gw.double() - shares.sum(0)) <= off).all()
    off = 1.03 * 2.0**-8 * (g.abs() @ w.abs() + 2 * (g @ w).abs())
    assert (abs(gx.double() - g @ w) <= off).all()


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
    weights = None if sample is None else torch.full((6,), sample)
    arrays = [tensor(a, "float16") for a in (X, W, Y)]
    with on("cuda"):
        _, grads = gradients(*arrays, sample_weight=weights, normalizer=7 * (sample or 1.0))
    held(on_host(grads), dtype="float16", normalizer=7.0)


@pytest.mark.parametrize("up", [1.0, 1 / 3, -2.0])
@pytest.mark.parametrize("place", ["cuda", "host"])
def test_an_upstream_is_not_rounded_before_it_scales(place, up, large, monkeypatch):
    """As a 0-d tensor it would be rounded to 8 bits, and err in every entry to the same side."""
    x, w, y = large
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
    with on("cuda"):
        arrays = (tensor(a, "bfloat16") for a in (X, W, Y))
        _, grads = gradients(*arrays, group=..., block_rows=3)
    held(on_host(grads), dtype="bfloat16")
    assert torch.bfloat16 not in seen
    assert torch.float32 in seen
