"""The last step of every loss: a prepared call is computed."""

from __future__ import annotations

from collections.abc import Callable

from .. import backends
from .._typing import Array
from ..backends import groups
from ..backends.call import Call


def evaluate(call: Call) -> Array:
    """Return the value of a call, by the backend of its library."""
    compute: Callable[[Call], Array] = backends.of_loss(call).value
    if call.group is not None:
        # The ranks' exchange is no operation that torch.compile could put into its graph.
        return groups.uncompiled(compute, call)
    return compute(call)
