"""Dask: core on chunks of rows and of classes, whose statistics are merged; nothing is computed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import dask.array as da
import numpy as np

from ..._arrays.context import Context
from ..._arrays.inspect import Array
from ...core.call import LossCall
from ...core.options import Cotangent, Operands, Outputs
from ...core.reduce import OVERFLOW_SCALE, mean
from ...core.token_stats import Tokens, dtypes, mapped, of_fields
from ..eager.dense import depends_on_targets, restore
from . import graph as steps
from .call_graph import CallGraph
from .chunks import added, blockwise, cast, quietly
from .labels import STATISTIC, TOKEN


def by_rows(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a call of one row a row axis: Dask maps no chunk without axes to one with axes."""

    @wraps(function)
    def run(call: LossCall, *others: Any) -> Any:
        o = call.operands
        if o.x.ndim > (1 if call.classes else 0):
            return function(call, *others)
        rows = Operands(*(None if a is None else a[None] for a in o))
        as_rows = call._replace(operands=rows._replace(class_weight=o.class_weight), axis=-1)
        if call.options.reduction == "none":  # a cotangent is a row's
            others = tuple(a[None] if hasattr(a, "ndim") else a for a in others)
        return _first(function(as_rows, *others))

    return run


def _first(made: Any) -> Any:
    """Return the results of the only row; a sum, or a gradient to what has no rows, as it is."""
    if isinstance(made, dict):
        return {n: a[0] if n in ("x", "targets") else a for n, a in made.items()}
    if isinstance(made, Tokens):
        return mapped(_first, made)
    if isinstance(made, tuple):
        return tuple(map(_first, made))
    return made[0] if made.ndim else made


@by_rows
def value(call: LossCall) -> Array:
    """Return the loss, lazily."""
    rows, weights = CallGraph(call).rows_and_weights()
    return _reduced(call, rows, weights)


def _reduced(call: LossCall, rows: Array, weights: Array) -> Array:
    """Return the row losses, their sum or their mean."""
    dtype = call.cx.compute_dtype
    if call.options.reduction == "none":
        return cast(rows, dtype)
    total = _total(rows)
    if call.options.reduction == "mean":
        total = quietly(mean, total, added(weights), call.normalizer)
    return cast(total, dtype)


def _total(rows: Array) -> Array:
    """Sum all rows.

    A sum of finite numbers may overflow on the way in both directions, and end as NaN: it is
    computed again of smaller numbers.
    """
    return quietly(_rescued, added(rows), added(rows * OVERFLOW_SCALE))


def _rescued(cx: Context, total: Array, scaled: Array) -> Array:
    return cx.xp.where(cx.xp.isfinite(total), total, scaled / OVERFLOW_SCALE)


def _shared(cx: Context, weight: Array, cotangent: Any, normalizer: Any) -> Array:
    return mean(cx, cx.xp.ones_like(weight) * cotangent, weight, normalizer)


def _negative_mean(cx: Context, total: Array, weight: Array, row_loss: Array) -> Array:
    return -row_loss * mean(cx, total, weight, None)


@by_rows
def value_and_grad(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the closed-form gradients, lazily."""
    loss, grads, _ = gradients(call, wanted, cotangent)
    return loss, {name: restore(call, g) for name, g in grads.items()}


def gradients(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array], Array | None]:
    """Return the loss, the gradients, and whether a row counts; None where that is not asked."""
    graph = CallGraph(call)
    rows, weights = graph.rows_and_weights()
    loss = _reduced(call, rows, weights)
    of_rows = Cotangent(1.0 if cotangent is None else cotangent)
    if call.options.reduction == "mean":
        weight, n = added(weights), call.normalizer
        # What is 0 where no row counts: see core.reduce.
        any_row_counts = (weight if n is None else da.where(weight == 0, n, weight)) != 0
        row_loss = quietly(_shared, weight, of_rows.row_loss, n)
        row_weight = None
        if depends_on_targets(call) and n is None:
            row_weight = quietly(_negative_mean, _total(rows), weight, row_loss)
        of_rows = Cotangent(row_loss, row_weight, any_row_counts)
    grads = {name: graph.gradient(name, of_rows) for name in wanted}
    return loss, grads, of_rows.any_row_counts


@by_rows
def elements(call: LossCall) -> Array:
    """Return softmax or its logarithm, lazily."""
    graph = CallGraph(call)
    graph.prepare_stats()
    more = ("packed", graph.packed, (*graph.rows, STATISTIC))
    return restore(call, graph.map(steps.elements, graph.index, more, dtype=call.cx.compute_dtype))


@by_rows
def tokens(call: LossCall, asked: Outputs) -> tuple[Array, Tokens]:
    """Return row losses and the numbers beside them, lazily, from chunks of whole rows."""
    o = call.operands
    graph = CallGraph(call._replace(operands=o._replace(x=o.x.rechunk({o.x.ndim - 1: -1}))))
    kinds = dtypes(call.cx, asked)
    step, new = partial(steps.tokens, asked=asked), {TOKEN: 1 + len(kinds)}
    every = graph.map(step, (*graph.rows, TOKEN), new=new)
    # In float64, which holds every class number and whether a row is correct.
    made = (cast(every[..., i], kind) for i, kind in enumerate(kinds.values(), 1))
    return cast(every[..., 0], call.cx.compute_dtype), of_fields(made, asked)


@by_rows
def weight(call: LossCall) -> Array:
    """Return the mean's denominator, lazily."""
    graph = CallGraph(call)
    if call.options.indexed or graph.o.indices is not None:
        return added(graph.map(steps.weights, graph.rows, x=False))
    return added(graph.rows_and_weights()[1])


@by_rows
def facts(call: LossCall) -> tuple[Any, Any, Any, Array]:
    """Compute row losses, row weights and where the prediction is the target.

    The prediction, the first class of the largest logit, is returned last and stays lazy.
    """
    graph = CallGraph(call)
    losses, weights = graph.rows_and_weights()
    predicted, target = da.argmax(graph.x, axis=-1), graph.o.targets
    if graph.soft:
        target = da.argmax(target, axis=-1)
    right = blockwise(
        steps.equal, graph.rows, predicted, graph.rows, target, graph.rows, dtype=np.bool_
    )
    computed = da.compute(losses, weights, right)  # type: ignore[no-untyped-call]
    return (*computed, predicted)
