"""What a call asks for: hashable options, and the arrays they apply to."""

from __future__ import annotations

from typing import NamedTuple

from .._arrays.inspect import Array


class Options(NamedTuple):
    """The options of one call, scalars only: hashable, so that a compiler can specialise on it."""

    kind: str
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


class Operands(NamedTuple):
    """The arrays of one call, as they came, the class axis last; nothing converted yet.

    `x` and soft `targets` are (*rows, classes); labels, `sample_weight` and `where` are (*rows);
    `class_weight` is (classes,). The binary losses have no class axis: every array is (*rows).
    """

    x: Array
    targets: Array | None = None
    class_weight: Array | None = None
    sample_weight: Array | None = None
    where: Array | None = None
    pos_weight: Array | None = None


class Outputs(NamedTuple):
    """What an engine is asked to return."""

    rows: bool = False  # one loss a row
    total: bool = False  # the sum of the row losses
    weight: bool = False  # the sum of the row weights
    grad: bool = False  # gradient to x
    grad_targets: bool = False  # gradient to floating targets
    stats: bool = False  # what a later gradient can start from
    elements: bool = False  # softmax or its logarithm


class Cotangent(NamedTuple):
    """What the gradient is multiplied by: d result/d row loss, and d result/d row weight."""

    row_loss: Array | float = 1.0  # a scalar or (*rows)
    row_weight: Array | float | None = None
    any_row_counts: Array | None = None  # False: nothing contributes, every gradient is 0


UNIT_COTANGENT = Cotangent()


class Outcome(NamedTuple):
    """What an engine returns; what was not asked for is None."""

    rows: Array | None = None
    total: Array | None = None
    weight: Array | None = None
    grad: Array | None = None
    grad_targets: Array | None = None
    stats: tuple[Array, ...] | None = None
    elements: Array | None = None
