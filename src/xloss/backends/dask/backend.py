"""Dask: core on chunks of rows and of classes, whose statistics are merged; nothing is computed."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np

from ..._arrays.inspect import Array
from ...core.call import LossCall
from ...core.options import Cotangent, Operands, Outputs
from ...core.reduce import OVERFLOW_SCALE
from ...core.token_stats import Tokens
from ..eager.dense import depends_on_targets, restore
from . import graph as steps
from .call_graph import CallGraph
from .chunks import blockwise
from .labels import STATISTIC
from .tokens import columns, one_row


def value(call: LossCall) -> Array:
    """Return the loss, lazily."""
    if is_one_row(call):
        loss = value(as_rows(call))
        return loss[0] if loss.ndim else loss
    rows, weights = CallGraph(call).rows_and_weights()
    return _reduced(call, rows, weights)


def is_one_row(call: LossCall) -> bool:
    """Tell whether a call has no row axis, so that its row arrays have no axis at all."""
    return bool(call.operands.x.ndim == (1 if call.classes else 0))


def as_rows(call: LossCall) -> LossCall:
    """Give a call of one row a row axis: Dask maps no chunk without axes to one with axes."""
    o = call.operands
    rows = Operands(*(None if a is None else a[None] for a in o))
    return call._replace(operands=rows._replace(class_weight=o.class_weight), axis=-1)


def _reduced(call: LossCall, rows: Array, weights: Array) -> Array:
    """Return the row losses, their sum or their mean."""
    if call.options.reduction == "none":
        return rows.astype(call.cx.compute_dtype)
    total = _total(rows)
    if call.options.reduction == "mean":
        total = _mean(call, total, weights.sum())
    return total.astype(call.cx.compute_dtype)


def _total(rows: Array) -> Array:
    """Sum all rows.

    A sum of finite numbers may overflow on the way in both directions, and end as NaN: it is
    computed again of smaller numbers.
    """
    total = rows.sum()
    return da.where(da.isfinite(total), total, (rows * OVERFLOW_SCALE).sum() / OVERFLOW_SCALE)


def _mean(call: LossCall, total: Array, weight: Array) -> Array:
    """Divide a total by the mean's denominator; 0 where no row counts."""
    denominator = weight if call.normalizer is None else call.normalizer
    empty = contributing(call, weight) == 0
    return da.where(empty, 0.0, total / da.where(empty, 1.0, denominator))


def contributing(call: LossCall, weight: Array) -> Array:
    """Return what is 0 where no row counts: see core.reduce."""
    n = call.normalizer
    return weight if n is None else da.where(weight == 0, n, weight)


def value_and_grad(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the closed-form gradients, lazily."""
    if is_one_row(call):
        per_row = cotangent is not None and call.options.reduction == "none"
        loss, grads = value_and_grad(
            as_rows(call), wanted, cotangent[None] if per_row else cotangent
        )
        return loss[0] if loss.ndim else loss, {name: g[0] for name, g in grads.items()}
    graph = CallGraph(call)
    rows, weights = graph.rows_and_weights()
    loss = _reduced(call, rows, weights)
    of_rows = Cotangent(1.0 if cotangent is None else cotangent)
    if call.options.reduction == "mean":
        weight = weights.sum()
        any_row_counts = contributing(call, weight) != 0
        denominator = weight if call.normalizer is None else call.normalizer
        row_loss = of_rows.row_loss / da.where(any_row_counts, denominator, 1.0)
        row_weight = None
        if depends_on_targets(call) and call.normalizer is None:
            row_weight = -row_loss * _mean(call, _total(rows), weight)
        of_rows = Cotangent(row_loss, row_weight, any_row_counts)
    return loss, {name: restore(call, graph.gradient(name, of_rows)) for name in wanted}


def elements(call: LossCall) -> Array:
    """Return softmax or its logarithm, lazily."""
    if is_one_row(call):
        return elements(as_rows(call))[0]
    graph = CallGraph(call)
    graph.prepare_stats()
    more = ("packed", graph.packed, (*graph.rows, STATISTIC))
    return restore(call, graph.map(steps.elements, graph.index, more, dtype=call.cx.compute_dtype))


def tokens(call: LossCall, asked: Outputs) -> tuple[Array, Tokens]:
    """Return row losses and the numbers beside them, lazily, from chunks of whole rows."""
    if is_one_row(call):
        return one_row(*tokens(as_rows(call), asked))
    o = call.operands
    graph = CallGraph(call._replace(operands=o._replace(x=o.x.rechunk({o.x.ndim - 1: -1}))))
    return columns(call, graph.map, graph.rows, asked)


def weight(call: LossCall) -> Array:
    """Return the mean's denominator, lazily."""
    graph = CallGraph(as_rows(call) if is_one_row(call) else call)
    if call.options.indexed or graph.indices is not None:
        return graph.map(steps.weights, graph.rows, x=False).sum()
    return graph.rows_and_weights()[1].sum()


def facts(call: LossCall) -> tuple[Any, Any, Any, Array]:
    """Compute row losses, row weights and where the prediction is the target.

    The prediction, the first class of the largest logit, is returned last and stays lazy.
    """
    if is_one_row(call):
        *numbers, predicted = facts(as_rows(call))
        return (*(a[0] for a in numbers), predicted[0])
    graph = CallGraph(call)
    losses, weights = graph.rows_and_weights()
    predicted, target = da.argmax(graph.x, axis=-1), graph.targets
    if graph.soft:
        target = da.argmax(target, axis=-1)
    right = blockwise(
        steps.equal, graph.rows, predicted, graph.rows, target, graph.rows, dtype=np.bool_
    )
    computed = da.compute(losses, weights, right)  # type: ignore[no-untyped-call]
    return (*computed, predicted)
