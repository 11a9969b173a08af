"""The last step of every loss: evaluate a prepared call."""

from __future__ import annotations

from collections.abc import Callable

from .. import backends
from .._arrays.inspect import as_written
from .._typing import Array
from ..backends import process_groups
from ..core.call import LossCall


@as_written
def evaluate(call: LossCall) -> Array:
    """Return the value of a call, by the backend of its library."""
    compute: Callable[[LossCall], Array] = backends.of_loss(call).value
    if call.group is not None:
        # torch.compile cannot put the exchange between ranks into its graph.
        return process_groups.uncompiled(compute, call)
    return compute(call)
