"""The records that flow through a call: options, operands, outputs, cotangent, outcome."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from .._arrays.inspect import Array


class Options(NamedTuple):
    """The options of one call: scalars only, so that a compiler can specialise on their hash."""

    kind: str  # the loss, by the name of its public function
    indexed: bool = False  # targets are class indices
    ignore_index: int | None = None
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    softcap: float | None = None
    gamma: float = 0.0
    alpha: float | None = None
    eps: float | None = None
    log_target: bool = False
    reduction: str = "mean"
    validate: bool | str = "auto"
    engine: str | None = None
    rest: str | None = None  # targets name a few classes of each row; what the others have


class Operands(NamedTuple):
    """The arrays of one call with the class axis last, in the dtypes in which they came.

    `x` and soft `targets` are (*rows, classes); labels, `sample_weight` and `where` are (*rows);
    `class_weight` is (classes,). With `indices`, the K listed classes of each row, they and
    `targets` are (*rows, K). The binary losses have no class axis: every array is (*rows).
    """

    x: Array
    targets: Array | None = None
    class_weight: Array | None = None
    sample_weight: Array | None = None
    where: Array | None = None
    pos_weight: Array | None = None
    indices: Array | None = None


OPERANDS = len(Operands._fields)


# The row statistics of an earlier call on the same logits, (*rows) each, from which a gradient can
# start.
Saved: TypeAlias = "tuple[Array, ...] | None"


class Outputs(NamedTuple):
    """What an engine is asked to return."""

    rows: bool = False  # one loss a row
    total: bool = False  # the sum of the row losses
    weight: bool = False  # the sum of the row weights
    grad: bool = False  # the gradient to x
    grad_targets: bool = False  # the gradient to floating targets
    stats: bool = False  # row statistics, from which a later gradient can start
    elements: bool = False  # softmax or log-softmax, of the shape of x
    tokens: bool = False  # what `core.token_stats` has of each row; together with rows
    entropy: bool = False  # the entropy among them
    rank: bool = False  # the target's rank among them


class Cotangent(NamedTuple):
    """The derivatives of the result to the row losses and to the row weights."""

    row_loss: Array | float = 1.0  # a scalar or (*rows)
    row_weight: Array | float | None = None
    any_row_counts: Array | None = None  # 0-d; False: no row does, every gradient is 0


UNIT_COTANGENT = Cotangent()


class Outcome(NamedTuple):
    """What an engine returns; an output that was not requested is None."""

    rows: Array | None = None
    total: Array | None = None
    weight: Array | None = None
    grad: Array | None = None
    grad_targets: Array | None = None
    stats: tuple[Array, ...] | None = None
    elements: Array | None = None
    tokens: tuple[Array | None, ...] | None = None  # a core.token_stats.Tokens

    def map(self, function: Callable[[Array], Array]) -> Outcome:
        """Return the outcome with a function applied to each of its arrays."""

        def each(a: Any) -> Any:
            if isinstance(a, tuple):
                return tuple(map(each, a))
            return None if a is None else function(a)

        return Outcome(*map(each, self))
