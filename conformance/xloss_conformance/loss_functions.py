"""The function that the loss of a case is, with packed arguments where the loss has several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import xloss

from .linear_packing import LINEAR, linear_cross_entropy
from .token_rows import LINEAR_TOKENS, linear_token_stats, token_stats
from .top_k import TOP_K, top_k_cross_entropy

OWN: dict[str, Callable[..., Any]] = {
    LINEAR: linear_cross_entropy,
    "token_stats": token_stats,
    LINEAR_TOKENS: linear_token_stats,
    TOP_K: top_k_cross_entropy,
}


def public(name: str) -> Callable[..., Any]:
    """Return the public function that a case of that loss is about."""
    function: Callable[..., Any] = getattr(xloss, "cross_entropy" if name == TOP_K else name)
    return function


def loss(name: str) -> Callable[..., Any]:
    """Return the function that a case of that loss calls."""
    return OWN.get(name) or public(name)


def value_and_grad(
    function: Callable[..., Any], argnums: int | tuple[int, ...]
) -> Callable[..., tuple[Any, Any]]:
    """Return `xloss.value_and_grad`'s function of a loss, packed or not."""
    if function is linear_cross_entropy or function is top_k_cross_entropy:
        made: Callable[..., tuple[Any, Any]] = function.value_and_grad(argnums)
        return made
    return xloss.value_and_grad(function, argnums)
