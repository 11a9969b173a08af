"""Dask: core mapped over chunks along rows and classes, statistics merged, nothing computed."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
from dask.layers import ArrayBlockIdDep

from ..._arrays.inspect import Array
from ...core import class_slices
from ...core.call import LossCall
from ...core.family import PROBABILITY_KINDS, SOFTMAX_KINDS
from ...core.options import Cotangent, Operands
from ...core.reduce import OVERFLOW_SCALE
from ...engines import choose
from . import graph as steps
from .chunks import cut_like, spread_like, without_empty

ROW_ARRAYS = ("sample_weight", "where", "pos_weight")


class _Graph:
    """One call's arrays, chunked alike, and the blockwise steps over them."""

    def __init__(self, call: LossCall) -> None:
        choose(call.operands, call.options, call.cx)
        self.call, self.options, self.classes = call, call.options, call.classes
        o = call.operands
        self.x = without_empty(o.x) if call.classes else o.x
        n = o.x.ndim
        self.index = tuple(range(n))
        self.rows = self.index[:-1] if call.classes else self.index
        soft = o.targets is not None and o.targets.ndim == n
        self.soft = bool(call.classes and soft)
        self.targets = o.targets
        if o.targets is not None:
            axes = self.index if soft else self.rows
            self.targets = cut_like("targets", o.targets, self.x, axes)
        self.row_arrays = {
            name: spread_like(name, a, self.x, self.rows)
            for name in ROW_ARRAYS
            if (a := getattr(o, name)) is not None
        }
        self.class_weight = None if o.class_weight is None else o.class_weight.rechunk(-1)
        # None for labels alone, which have no class axis to number.
        whole = bool(call.classes) and o.x.shape[-1] == call.classes
        self.ids = da.arange(call.classes, chunks=(self.x.chunks[-1],)) if whole else None
        # Chunks of whole rows go to an engine as they are: nothing is there to merge.
        self.merges = self.options.kind in SOFTMAX_KINDS or self.options.kind in PROBABILITY_KINDS
        if self.options.kind == "cross_entropy" and len(self.x.chunks[-1]) == 1:
            self.merges = False
        self.packed = self.sums = None

    def map(
        self,
        step: Any,
        out: tuple[int, ...],
        *more: Any,
        x: bool = True,
        dtype: Any = np.float64,
        new: dict[int, int] | None = None,
        adjust: dict[int, int] | None = None,
    ) -> Array:
        """Apply `step(spec, classes, names, *chunks)` to aligned chunks."""
        names: list[str] = []
        args: list[Any] = []

        def add(name: str, array: Any, index: tuple[int, ...]) -> None:
            if array is not None:
                names.append(name)
                args.extend((array, index))

        if x:
            add("x", self.x, self.index)
            add("ids", self.ids, self.index[-1:])
        if x or not self.soft:
            index = self.index if self.soft or not self.classes else self.rows
            add("targets", self.targets, index)
        for name, array in self.row_arrays.items():
            add(name, array, self.rows)
        if self.class_weight is not None and (x or not self.soft):
            add("class_weight", self.class_weight, (99,))
        for name, array, index in more:
            add(name, array, index)
        cuts = None
        if self.options.validate is True and x:
            cuts = self.x.chunks[: len(self.rows)]
            add("block", ArrayBlockIdDep(cuts), self.rows)
        return da.blockwise(  # type: ignore[no-untyped-call]
            steps.step,
            out,
            *args,
            step=step,
            names=tuple(names),
            options=self.options,
            classes=self.classes,
            acc=str(self.call.cx.compute_dtype),
            first=self.call.arguments[0],
            cuts=cuts,
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
        c, f = self.index[-1], len(self.index)
        parts = self.map(
            steps.stats, (*self.rows, c, f), new={f: len(class_slices.FIELDS)}, adjust={c: 1}
        )
        self.packed = da.blockwise(  # type: ignore[no-untyped-call]
            steps.merge,
            (*self.rows, f),
            parts,
            (*self.rows, c, f),
            options=self.options,
            acc=str(self.call.cx.compute_dtype),
            concatenate=True,
            align_arrays=False,
            dtype=np.float64,
            meta=np.empty((0,) * len(self.index), dtype=np.float64),
        )
        if class_slices.needs_second_sums(self.options):
            number = 1 if self.options.kind == "entropy" else 3
            shares = self.map(
                steps.seconds,
                (*self.rows, c, f),
                ("packed", self.packed, (*self.rows, f + 1)),
                new={f: number},
                adjust={c: 1},
            )
            self.sums = shares.sum(axis=-2)

    def stat_args(self) -> list[Any]:
        f = len(self.index)
        return [("packed", self.packed, (*self.rows, f)), ("sums", self.sums, (*self.rows, f + 1))]

    def rows_and_weights(self) -> tuple[Array, Array]:
        """Return row losses and row weights."""
        f = len(self.index) + 2
        if self.merges:
            self.prepare_stats()
            both = self.map(steps.rows, (*self.rows, f), *self.stat_args(), x=False, new={f: 2})
        elif self.classes:
            c = self.index[-1]
            shares = self.map(steps.row_shares, (*self.rows, c, f), new={f: 2}, adjust={c: 1})
            row = shares[..., 0].sum(axis=-1)
            return row, shares[..., 0, 1]
        else:
            both = self.map(steps.row_shares, (*self.rows, f), new={f: 2})
        return both[..., 0], both[..., 1]

    def gradient(self, want: str, cotangent: Cotangent) -> Array:
        """Return the gradient to x or to soft targets."""
        more: list[Any] = []
        if self.packed is not None:
            more = self.stat_args()
        for name, value in (
            ("up", cotangent.row_loss),
            ("share", cotangent.row_weight),
            ("live", cotangent.any_row_counts),
        ):
            if value is None or isinstance(value, float):
                continue
            axes = self.rows if value.ndim else ()
            more.append((name, cut_like("cotangent", value, self.x, axes), axes))
        target: Any = self.x if want == "x" else self.targets
        step = steps.gradient_x if want == "x" else steps.gradient_targets
        return self.map(step, self.index, *more, dtype=target.dtype)


def value(call: LossCall) -> Array:
    """Return the loss, lazily."""
    if is_one_row(call):
        alone = value(lifted(call))
        return alone[0] if alone.ndim else alone
    rows, weights = _Graph(call).rows_and_weights()
    return _reduced(call, rows, weights)


def is_one_row(call: LossCall) -> bool:
    """Tell whether a call has no axis of rows, and its row arrays no axis at all."""
    return bool(call.operands.x.ndim == (1 if call.classes else 0))


def lifted(call: LossCall) -> LossCall:
    """Return the call on one row: Dask maps no chunk of no dimension to one that has one."""
    o = call.operands
    lifted = Operands(*(None if a is None else a[None] for a in o))
    return call._replace(operands=lifted._replace(class_weight=o.class_weight), axis=-1)


def _reduced(call: LossCall, rows: Array, weights: Array) -> Array:
    if call.options.reduction == "none":
        return rows.astype(call.cx.compute_dtype)
    total = _total(rows)
    if call.options.reduction == "mean":
        total = _mean(call, total, weights.sum())
    return total.astype(call.cx.compute_dtype)


def _total(rows: Array) -> Array:
    """Sum all rows; finite ones of both signs that overflow on the way never to NaN."""
    total = rows.sum()
    return da.where(da.isfinite(total), total, (rows * OVERFLOW_SCALE).sum() / OVERFLOW_SCALE)


def _mean(call: LossCall, total: Array, weight: Array) -> Array:
    below = weight if call.normalizer is None else call.normalizer
    empty = contributing(call, weight) == 0
    return da.where(empty, 0.0, total / da.where(empty, 1.0, below))


def contributing(call: LossCall, weight: Array) -> Array:
    """Return what is 0 where no row contributes: see core.reduce."""
    n = call.normalizer
    return weight if n is None else da.where(weight == 0, n, weight)


def value_and_grad(
    call: LossCall, wanted: tuple[str, ...], cotangent: Any
) -> tuple[Array, dict[str, Array]]:
    """Return the loss and the closed-form gradients, lazily."""
    if is_one_row(call):
        cot = (
            cotangent[None]
            if cotangent is not None and call.options.reduction == "none"
            else cotangent
        )
        got, grads = value_and_grad(lifted(call), wanted, cot)
        return got[0] if got.ndim else got, {name: g[0] for name, g in grads.items()}
    from ..eager.dense import depends_on_targets, restore

    graph = _Graph(call)
    rows, weights = graph.rows_and_weights()
    got = _reduced(call, rows, weights)
    cot = Cotangent(1.0 if cotangent is None else cotangent)
    if call.options.reduction == "mean":
        weight = weights.sum()
        live = contributing(call, weight) != 0
        below = weight if call.normalizer is None else call.normalizer
        factor = (1.0 if cotangent is None else cotangent) / da.where(live, below, 1.0)
        share = None
        if depends_on_targets(call) and call.normalizer is None:
            share = -factor * _mean(call, _total(rows), weight)
        cot = Cotangent(factor, share, live)
    return got, {name: restore(call, graph.gradient(name, cot)) for name in wanted}


def elements(call: LossCall) -> Array:
    """Return softmax or its logarithm, lazily."""
    from ..eager.dense import restore

    if is_one_row(call):
        return elements(lifted(call))[0]
    graph = _Graph(call)
    graph.prepare_stats()
    more = ("packed", graph.packed, (*graph.rows, len(graph.index)))
    return restore(call, graph.map(steps.elements, graph.index, more, dtype=call.cx.compute_dtype))


def weight(call: LossCall) -> Array:
    """Return the mean's denominator, lazily."""
    graph = _Graph(lifted(call) if is_one_row(call) else call)
    if call.options.indexed:
        return graph.map(steps.weights, graph.rows, x=False).sum()
    return graph.rows_and_weights()[1].sum()


def facts(call: LossCall) -> tuple[Any, Any, Any, Array]:
    """Compute row losses, row weights and where the prediction is the target.

    And name the prediction, the first class of the largest logit, which stays lazy.
    """
    if is_one_row(call):
        *numbers, predicted = facts(lifted(call))
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
