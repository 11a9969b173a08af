"""What one array library needs and nobody else: looked up by library, the default needs nothing."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol

from .._xp import Array
from . import default
from .call import Call

__all__ = ["Backend", "of"]

# Imported when an array of that library is in hand, never before.
_SPECIAL = {"torch": "torch", "jax": "jax", "dask": "dask"}
_found: dict[str, Backend] = {}


class Backend(Protocol):
    """What a backend offers."""

    def value(self, call: Call) -> Array:
        """Return the loss."""

    def value_and_grad(
        self, call: Call, wanted: tuple[str, ...], cotangent: Any
    ) -> tuple[Array, dict[str, Array]]:
        """Return the loss and the closed-form gradients to "x" and "targets"."""

    def elements(self, call: Call) -> Array:
        """Return softmax or log-softmax, elementwise."""

    def weight(self, call: Call) -> Array:
        """Return the sum of the row weights, the mean's denominator."""


def of(call: Call) -> Backend:
    """Return the backend of the call's library."""
    name = call.cx.library
    if name not in _SPECIAL:
        return default
    backend = _found.get(name)
    if backend is None:
        backend = _found[name] = import_module(f"{__name__}.{_SPECIAL[name]}")
    return backend
