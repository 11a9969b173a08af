"""Linear cross-entropy on CuPy: the eager pass, multiplying 16-bit matrices by cuBLAS."""

from __future__ import annotations

from typing import Any

from ..._arrays.inspect import Array
from ...core.call import LossCall
from ...core.options import Outputs
from ...core.token_stats import Tokens
from ..eager import linear
from .linear_products import products


def value(call: LossCall) -> Array:
    """Return the loss."""
    return linear.value(call, products)


def value_and_grad(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the closed-form gradients, in one pass."""
    return linear.value_and_grad(call, wanted, cotangent, products)


def tokens(call: LossCall, asked: Outputs) -> tuple[Array, Tokens]:
    """Return row losses and the numbers beside them."""
    return linear.tokens(call, asked, products)
