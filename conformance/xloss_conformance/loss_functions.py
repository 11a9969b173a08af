"""How the loss of a case is called on arguments that are packed where it has several arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import xloss

from .linear import LINEAR, joined, namespace, unpack
from .model import Called
from .token_rows import LINEAR_TOKENS, TOKENS
from .top_k import TOP_K
from .top_k import unpack as top_k_targets


def public(loss: str) -> Callable[..., Any]:
    """Return the public function that a case of that loss is about."""
    function: Callable[..., Any] = getattr(xloss, "cross_entropy" if loss == TOP_K else loss)
    return function


def call(function: Callable[..., Any], loss: str, x: Any, t: Any, options: dict[str, Any]) -> Any:
    """Call a function of a loss's own arguments; pack the gradients that it may return."""
    if loss in (LINEAR, LINEAR_TOKENS):
        features, weight, bias = unpack(x, t.shape[0])
        made = function(features, weight, t, bias=bias, **options)
    else:
        made = function(x, **options) if t is None else function(x, t, **options)
    if loss in TOKENS:
        return _stacked(made)
    if loss == LINEAR and isinstance(made, tuple):
        return made[0], joined(x, *made[1])
    return made


def value(loss: str, x: Any, t: Any, options: dict[str, Any]) -> Any:
    """Return what xloss makes of packed arguments."""
    if loss == TOP_K:
        rest, options = _rest(options)
        t = top_k_targets(t, rest)
    return call(public(loss), loss, x, t, options)


def value_and_grad(loss: str, x: Any, t: Any, options: dict[str, Any], both: bool) -> Called:
    """Return the value and the closed-form gradients to x and, if it is wanted, to the targets."""
    own: Any
    if loss == LINEAR:
        features, weight, bias = unpack(x, t.shape[0])
        own = xloss.value_and_grad(public(loss), (0, 1, "bias", 2)[: 3 + both])
        value, grads = own(features, weight, t, bias=bias, **options)
        return value, joined(x, *grads[:3]), grads[3] if both else None
    own = xloss.value_and_grad(public(loss), (0, 1)[: 1 + both])
    if loss == TOP_K:
        rest, options = _rest(options)
        value, grads = own(x, top_k_targets(t, rest), **options)
        xp = namespace(x)
        slots = [xp.concat([xp.zeros_like(by), by], axis=-1) for by in grads[1:]]
        return value, grads[0], slots[0] if both else None
    value, grads = own(x, **options) if t is None else own(x, t, **options)
    return value, grads[0], grads[1] if both else None


def _rest(options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Take the option apart that belongs to TopKTargets."""
    return options.get("rest", "zero"), {k: v for k, v in options.items() if k != "rest"}


def _stacked(stats: Any) -> Any:
    """Return the fields that are there in one array of the loss's dtype."""
    loss = stats[0]
    xp = namespace(loss)
    cast = xp.cast if xp.__name__ == "tensorflow" else xp.astype
    return xp.stack([cast(v, loss.dtype) for v in stats if v is not None], axis=-1)
