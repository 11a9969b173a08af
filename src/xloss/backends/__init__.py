"""What one array library needs and nobody else: looked up by library, the default needs nothing."""

from __future__ import annotations

import sys
from typing import Any, Protocol

from .._arrays.context import Context
from .._arrays.inspect import Array, spread
from ..core.call import LossCall
from ..core.reduce import sum_once
from . import fingerprints
from .eager import dense as default

__all__ = ["Backend", "of", "of_loss"]


class Loss(Protocol):
    """What computes a loss."""

    def value(self, call: LossCall) -> Array:
        """Return the loss."""

    def value_and_grad(
        self, call: LossCall, wanted: tuple[str, ...], cotangent: Any
    ) -> tuple[Array, dict[str, Array]]:
        """Return the loss and the closed-form gradients to what is wanted."""


class Backend(Loss, Protocol):
    """What a backend offers."""

    def elements(self, call: LossCall) -> Array:
        """Return softmax or log-softmax, elementwise."""

    def weight(self, call: LossCall) -> Array:
        """Return the sum of the row weights, the mean's denominator."""


def of_loss(call: LossCall) -> Loss:
    """Return what takes a loss: of logits that are there, of features, or of a part."""
    if call.memory is not None:
        return _remembered(call)
    if call.cx.library == "torch":
        _refuse_spread(call)
    if call.linear is not None:
        from . import linear

        return linear
    if call.group is not None:
        from . import parallel

        return parallel
    if spread(call.operands.x):
        from .torch import dtensor

        return dtensor
    return of(call)


def _remembered(call: LossCall) -> Backend:
    assert call.memory is not None
    found: Backend | None = call.memory.get("backend")
    if found is None:
        found = call.memory["backend"] = of(call)
    return found


def _refuse_spread(call: LossCall) -> None:
    """Refuse a DTensor beside a first argument that is none: this rank's part says nothing."""
    o = call.operands
    if spread(o.x):
        return
    linear = call.linear is not None or call.group is not None
    names = ("targets", "class_weight" if linear else "weight", *o._fields[3:])
    for name, a in (*zip(names, o[1:], strict=True), ("normalizer", call.normalizer)):
        if a is not None and spread(a):
            raise TypeError(
                f"{name}: is a DTensor, but {call.arguments[0]} is none; pass its full_tensor(), "
                f"or {call.arguments[0]} as a DTensor"
            )


def of(call: LossCall) -> Backend:
    """Return the backend of the call's library, imported with the first array of it in hand."""
    # Statements, not import_module: torch.compile traces these.
    library = call.cx.library
    if library == "torch":
        from .torch import backend as torch

        return torch
    if library == "jax":
        from .jax import backend as jax

        return jax
    if library == "dask":
        from .dask import backend as dask

        return dask
    if library == "cupy" and "cupy" in sys.modules:
        fingerprints.looks[sys.modules["cupy"].ndarray] = fingerprints.look_cupy
    return default


def square_sum(cx: Context, x: Array) -> Array:
    """Sum the squares of all elements."""
    if cx.library == "jax":
        from .jax import backend as jax

        return jax.square_sum(x)
    return sum_once(cx, x * x)
