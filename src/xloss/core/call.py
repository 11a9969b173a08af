"""A prepared call: everything checked, nothing computed."""

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
    classes: int  # 0: no class axis
    axis: int = -1  # where the class axis was
    normalizer: Any = None
    arguments: tuple[str, ...] = ("logits", "targets")  # what gradients go to; the first is x
    linear: Linear | None = None  # x are features, which this turns into logits
    shard: Shard | None = None  # the classes are spread over ranks, and these are here
    group: Any = None  # the ranks
    # What is remembered of calls alike; None: nothing. Not for other operands than these.
    memory: dict[Any, Any] | None = None

    def of(self, operands: Operands) -> LossCall:
        """Return the same call of other arrays; written out, as `_replace` takes a microsecond."""
        return LossCall(
            self.name,
            self.options,
            self.cx,
            operands,
            self.classes,
            self.axis,
            self.normalizer,
            self.arguments,
            self.linear,
            self.shard,
            self.group,
            self.memory,
        )
