"""Linear cross-entropy, whatever the library: what needs more than blocks has its own file."""

from __future__ import annotations

from functools import partial
from typing import Any

from .._arrays.inspect import Array
from ..core.call import LossCall
from .eager import dense as default
from .eager.linear import ChooseProducts, evaluated, rounded, run


def _own(call: LossCall) -> Any:
    """Return the module of a library that needs one, imported with the first array in hand."""
    library = call.cx.library
    if library == "torch":
        from .torch import linear as linear_torch

        return linear_torch
    if library == "jax":
        from .jax import linear as linear_jax

        return linear_jax
    if library == "dask":
        from .dask import linear as linear_dask

        return linear_dask
    return None


def _products(call: LossCall) -> ChooseProducts | None:
    """Return what CuPy multiplies 16-bit matrices by: cuBLAS's own call."""
    if call.cx.library != "cupy":
        return None
    from .cupy import linear_products

    return linear_products.products


def value(call: LossCall) -> Array:
    """Return the loss."""
    own = _own(call)
    if own is not None:
        made: Array = own.value(call)
        return made
    return default.value(call, partial(run, call, (), products=_products(call)))


def value_and_grad(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the closed-form gradients, in one pass."""
    own = _own(call)
    if own is not None:
        made: tuple[Array, dict[str, Array]] = own.value_and_grad(call, wanted, cotangent)
        return made
    runs = partial(run, call, products=_products(call))
    got, grads = evaluated(call, runs, wanted, cotangent)
    return got, rounded(call, grads)
