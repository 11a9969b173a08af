"""A loss whose classes are spread over ranks, whatever the library."""

from __future__ import annotations

from typing import Any

from .._arrays.inspect import Array
from ..core.call import LossCall
from .eager import sharded as exchange


def _own(call: LossCall) -> Any:
    """Return the module of a library that needs one, imported with the first array in hand."""
    library = call.cx.library
    if library == "torch":
        from .torch import sharded as torch_parallel

        return torch_parallel
    if library == "jax":
        from .jax import sharded as jax_parallel

        return jax_parallel
    return None


def value(call: LossCall) -> Array:
    """Return the loss."""
    own = _own(call)
    if own is not None:
        made: Array = own.value(call)
        return made
    return exchange.reduced(call, exchange.forward(call))


def value_and_grad(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the closed-form gradient of this rank's slice."""
    own = _own(call)
    if own is not None:
        both: tuple[Array, dict[str, Array]] = own.value_and_grad(call, wanted, cotangent)
        return both
    done = exchange.forward(call)
    return exchange.reduced(call, done), {"x": exchange.gradient(call, done, cotangent)}
