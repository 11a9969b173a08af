"""The one way every loss goes: prepare -> rows -> reduce; with gradient on request."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from .. import backends
from .._arrays.inspect import Array
from ..backends import process_groups
from ..core.call import LossCall

P = ParamSpec("P")


def loss(prepare: Callable[P, LossCall]) -> Callable[P, Array]:
    """Turn a function that prepares a call into the public one that returns its value."""

    @wraps(prepare)
    def public(*args: P.args, **kwargs: P.kwargs) -> Array:
        call = prepare(*args, **kwargs)
        if call.group is not None:
            return process_groups.uncompiled(backends.of_loss(call).value, call)
        return backends.of_loss(call).value(call)

    # value_and_grad's way in. The names are taken here: torch.compile, where it traces that call,
    # sees a default that inspect.signature has read before as a tensor.
    public.prepare = prepare  # type: ignore[attr-defined]
    prepare.names = tuple(inspect.signature(prepare).parameters)  # type: ignore[attr-defined]
    return public
