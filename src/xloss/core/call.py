"""A prepared call: its arguments are checked, and nothing is computed yet."""

from __future__ import annotations

from typing import Any, NamedTuple

from .._arrays.context import Context
from .class_shards import Shard
from .linear import Linear
from .options import Operands, Options


class LossCall(NamedTuple):
    """One loss on one set of arrays, the class axis moved to the end."""

    name: str  # the public function
    options: Options
    cx: Context
    operands: Operands
    classes: int  # 0: the loss has no class axis
    axis: int = -1  # where the class axis was in the user's array
    normalizer: Any = None
    arguments: tuple[str, ...] = ("logits", "targets")  # what may be differentiated; the first is x
    linear: Linear | None = None  # set: x are features, which this turns into logits
    shard: Shard | None = None  # set: the classes are spread over ranks, and this rank holds these
    group: Any = None  # the process group of those ranks
    # What earlier calls on arrays of the same shapes and dtypes found out; None: nothing is kept.
    # Another call's memory must not be passed on with operands that differ from it in those.
    memory: dict[Any, Any] | None = None

    def of(self, operands: Operands) -> LossCall:
        """Return the same call on other arrays; not by `_replace`, which takes a microsecond."""
        return tuple.__new__(LossCall, (*self[:3], operands, *self[4:]))
