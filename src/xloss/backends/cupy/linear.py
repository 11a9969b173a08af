"""Linear cross-entropy on CuPy: the eager pass, multiplying 16-bit matrices by cuBLAS."""

from __future__ import annotations

from ..eager.linear import PRODUCTS, tokens, value, value_and_grad
from .linear_products import products

__all__ = ["tokens", "value", "value_and_grad"]

PRODUCTS["cupy"] = products
