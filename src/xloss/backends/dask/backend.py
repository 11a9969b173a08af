"""Dask: core on chunks of rows and of classes, whose statistics are merged; nothing is computed."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
from dask.layers import ArrayBlockIdDep

from ..._arrays.inspect import Array
from ...core import class_slices
from ...core.call import LossCall
from ...core.family import PROBABILITY_KINDS, SOFTMAX_KINDS
from ...core.options import Cotangent, Operands, Outputs
from ...core.reduce import OVERFLOW_SCALE
from ...core.token_stats import Tokens
from ...engines import choose
from ..eager.dense import depends_on_targets, restore
from . import graph as steps
from .chunks import broadcast_like, rechunk_like, without_empty
from .labels import (
    CLASS_WEIGHT,
    CLASSES,
    LOSS_AND_WEIGHT,
    SECOND_SUM,
    SLOTS,
    STATISTIC,
    row_labels,
)
from .tokens import columns, one_row

ROW_ARRAYS = ("sample_weight", "where", "pos_weight")
Labels = tuple[str, ...]


class _Graph:
    """One call's arrays in the same chunks, and the blockwise steps over them."""

    def __init__(self, call: LossCall) -> None:
        choose(call.operands, call.options, call.cx)
        self.call, self.options, self.classes = call, call.options, call.classes
        o = call.operands
        n = o.x.ndim
        few = o.indices is not None
        x = o.x.rechunk({n - 1: -1}) if few else o.x  # a list may name classes of every chunk
        self.x = without_empty(x) if call.classes else x
        axes = tuple(range(n))
        row_axes = axes[:-1] if call.classes else axes
        self.row_axes = row_axes
        self.rows: Labels = row_labels(len(row_axes))
        self.index: Labels = (*self.rows, CLASSES) if call.classes else self.rows
        soft = o.targets is not None and o.targets.ndim == n
        self.soft = bool(call.classes and soft)
        self.targets = o.targets
        if o.targets is not None:
            along = axes if soft and not few else row_axes
            self.targets = rechunk_like("targets", o.targets, self.x, along)
        self.indices = None
        self.target_index = self.index if self.soft else self.rows
        if few:
            probs, indices = (a.rechunk({n - 1: -1}) for a in (self.targets, o.indices))  # type: ignore[union-attr]
            self.targets = probs
            self.indices = rechunk_like("targets: indices", indices, self.x, row_axes)
            self.target_index = (*self.rows, SLOTS)
        self.row_arrays = {
            name: broadcast_like(name, a, self.x, row_axes)
            for name in ROW_ARRAYS
            if (a := getattr(o, name)) is not None
        }
        self.class_weight = None if o.class_weight is None else o.class_weight.rechunk(-1)
        # The number of each class, so that a chunk knows which classes it has. effective_count
        # passes labels with a class axis of length 1, whose classes have no numbers: None.
        whole = bool(call.classes) and o.x.shape[-1] == call.classes
        self.class_ids = da.arange(call.classes, chunks=(self.x.chunks[-1],)) if whole else None
        # Chunks of whole rows go to an engine as they are: there is nothing to merge.
        self.merges = self.options.kind in SOFTMAX_KINDS or self.options.kind in PROBABILITY_KINDS
        if self.options.kind == "cross_entropy" and len(self.x.chunks[-1]) == 1:
            self.merges = False
        self.packed = self.second_sums = None

    def map(
        self,
        step: Any,
        out: Labels,
        *more: Any,
        x: bool = True,
        dtype: Any = np.float64,
        new: dict[str, int] | None = None,
        adjust: dict[str, int] | None = None,
    ) -> Array:
        """Apply a step to aligned chunks of the call's arrays; the logits' too, if `x`.

        `out` labels the axes of the result, `new` gives the lengths of those that no array has,
        and `adjust` the lengths of the result's chunks where they are not the logits'. `more` are
        further arrays: name, array, labels.
        """
        names: list[str] = []
        args: list[Any] = []

        def add(name: str, array: Any, index: Labels) -> None:
            if array is not None:
                names.append(name)
                args.extend((array, index))

        if x:
            add("x", self.x, self.index)
            add("class_ids", self.class_ids, (CLASSES,))
        if x or not self.soft or self.indices is not None:
            add("targets", self.targets, self.target_index)
            add("indices", self.indices, self.target_index)
        for name, array in self.row_arrays.items():
            add(name, array, self.rows)
        if x or not self.soft or self.indices is not None:
            add("class_weight", self.class_weight, (CLASS_WEIGHT,))
        for name, array, index in more:
            add(name, array, index)
        row_chunks = None
        if self.options.validate is True and x:
            row_chunks = self.x.chunks[: len(self.rows)]
            add("block", ArrayBlockIdDep(row_chunks), self.rows)
        return da.blockwise(  # type: ignore[no-untyped-call]
            steps.step,
            out,
            *args,
            step=step,
            names=tuple(names),
            options=self.options,
            classes=self.classes,
            compute_dtype=str(self.call.cx.compute_dtype),
            first=self.call.arguments[0],
            row_chunks=row_chunks,
            axis=self.call.axis,
            new_axes=new or {},
            adjust_chunks=adjust,
            align_arrays=False,
            concatenate=True,
            dtype=dtype,
            meta=np.empty((0,) * len(out), dtype=dtype),
        )

    def prepare_stats(self) -> None:
        """Build the merged statistics, and the second sums where the kind has them."""
        of_slices = (*self.rows, CLASSES, STATISTIC)
        number = len(class_slices.FIELDS)
        slices = self.map(steps.stats, of_slices, new={STATISTIC: number}, adjust={CLASSES: 1})
        self.packed = da.blockwise(  # type: ignore[no-untyped-call]
            steps.merge,
            (*self.rows, STATISTIC),
            slices,
            of_slices,
            options=self.options,
            compute_dtype=str(self.call.cx.compute_dtype),
            concatenate=True,
            align_arrays=False,
            dtype=np.float64,
            meta=np.empty((0,) * len(self.index), dtype=np.float64),
        )
        if class_slices.needs_second_sums(self.options):
            number = 1 if self.options.kind == "entropy" else 3
            shares = self.map(
                steps.second_sums,
                (*self.rows, CLASSES, SECOND_SUM),
                ("packed", self.packed, (*self.rows, STATISTIC)),
                new={SECOND_SUM: number},
                adjust={CLASSES: 1},
            )
            self.second_sums = shares.sum(axis=-2)

    def stat_args(self) -> list[Any]:
        """Return what `map` passes to the steps that start from merged statistics."""
        return [
            ("packed", self.packed, (*self.rows, STATISTIC)),
            ("second_sums", self.second_sums, (*self.rows, SECOND_SUM)),
        ]

    def rows_and_weights(self) -> tuple[Array, Array]:
        """Return row losses and row weights."""
        out, new = (*self.rows, LOSS_AND_WEIGHT), {LOSS_AND_WEIGHT: 2}
        if self.merges:
            self.prepare_stats()
            both = self.map(steps.rows, out, *self.stat_args(), x=False, new=new)
        elif self.classes:
            of_slices = (*self.rows, CLASSES, LOSS_AND_WEIGHT)
            shares = self.map(steps.row_shares, of_slices, new=new, adjust={CLASSES: 1})
            return shares[..., 0].sum(axis=-1), shares[..., 0, 1]
        else:
            both = self.map(steps.row_shares, out, new=new)
        return both[..., 0], both[..., 1]

    def gradient(self, want: str, cotangent: Cotangent) -> Array:
        """Return the gradient to x or to soft targets."""
        more: list[Any] = []
        if self.packed is not None:
            more = self.stat_args()
        for name, value in cotangent._asdict().items():
            if value is None or isinstance(value, float):
                continue
            per_row = value.ndim > 0
            value = rechunk_like("cotangent", value, self.x, self.row_axes if per_row else ())
            more.append((name, value, self.rows if per_row else ()))
        target: Any = self.x if want == "x" else self.targets
        step = steps.gradient_x if want == "x" else steps.gradient_targets
        index = self.index if want == "x" else self.target_index
        return self.map(step, index, *more, dtype=target.dtype)


def value(call: LossCall) -> Array:
    """Return the loss, lazily."""
    if is_one_row(call):
        loss = value(as_rows(call))
        return loss[0] if loss.ndim else loss
    rows, weights = _Graph(call).rows_and_weights()
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
    graph = _Graph(call)
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
    graph = _Graph(call)
    graph.prepare_stats()
    more = ("packed", graph.packed, (*graph.rows, STATISTIC))
    return restore(call, graph.map(steps.elements, graph.index, more, dtype=call.cx.compute_dtype))


def tokens(call: LossCall, asked: Outputs) -> tuple[Array, Tokens]:
    """Return row losses and the numbers beside them, lazily, from chunks of whole rows."""
    if is_one_row(call):
        return one_row(*tokens(as_rows(call), asked))
    o = call.operands
    graph = _Graph(call._replace(operands=o._replace(x=o.x.rechunk({o.x.ndim - 1: -1}))))
    return columns(call, graph.map, graph.rows, asked)


def weight(call: LossCall) -> Array:
    """Return the mean's denominator, lazily."""
    graph = _Graph(as_rows(call) if is_one_row(call) else call)
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
    graph = _Graph(call)
    losses, weights = graph.rows_and_weights()
    predicted, target = da.argmax(graph.x, axis=-1), graph.targets
    if graph.soft:
        target = da.argmax(target, axis=-1)
    right = da.blockwise(  # type: ignore[no-untyped-call]
        steps.equal,
        graph.rows,
        predicted,
        graph.rows,
        target,
        graph.rows,
        align_arrays=False,
        dtype=np.bool_,
        meta=np.empty((0,) * len(graph.rows), dtype=np.bool_),
    )
    computed = da.compute(losses, weights, right)  # type: ignore[no-untyped-call]
    return (*computed, predicted)
