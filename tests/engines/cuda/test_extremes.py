"""The CUDA engine's kernels where numbers are far out: what is nothing stays nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import xloss
from libraries import COMPILER

pytestmark = pytest.mark.skipif(
    COMPILER is None, reason="the kernels are compiled for the host by g++: install it to run this"
)


def both(x: Any, t: Any, up: float, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return row losses, and the gradient under an upstream; float32."""
    import torch

    from emulated import emulated

    logits, targets = (torch.from_numpy(np.asarray(a)) for a in (np.float32(x), t))
    given = {
        k: torch.from_numpy(np.float32(v)) if k.endswith("weight") else v
        for k, v in options.items()
    }
    with emulated():
        loss, grad = xloss.value_and_grad(xloss.cross_entropy)(
            logits, targets, reduction="none", cotangent=torch.full((len(x),), up), **given
        )
    return loss.double().numpy(), grad.double().numpy()


@pytest.mark.parametrize("classes", [5, 300, 9001])
@pytest.mark.parametrize("low", [-np.inf, -200.0])
def test_a_certain_row_loses_nothing_whatever_it_weighs(classes: int, low: float) -> None:
    x = np.full((2, classes), low)
    x[:, 3] = [0.5, 9000.0]
    y = np.asarray([3, 3])
    loss, grad = both(x, y, 1e30, sample_weight=[1e30, 1.0])
    np.testing.assert_array_equal(loss, 0.0)
    np.testing.assert_array_equal(grad[1:], 0.0)
    loss, grad = both(x, y, 1e30)
    np.testing.assert_array_equal(loss, 0.0)
    np.testing.assert_array_equal(grad, 0.0)
