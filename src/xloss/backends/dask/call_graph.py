"""The arrays of one call on Dask in the same chunks, and the blockwise steps over them."""

from __future__ import annotations

from functools import partial
from typing import Any

import dask.array as da
import numpy as np
from dask.layers import ArrayBlockIdDep

from ..._arrays.inspect import Array
from ...core import class_slices
from ...core.call import LossCall
from ...core.family import PROBABILITY_KINDS, SOFTMAX_KINDS
from ...core.options import Cotangent, Operands
from ...engines import choose
from . import graph as steps
from .chunks import added, blockwise, broadcast_like, rechunk_like, without_empty
from .labels import (
    CLASS_WEIGHT,
    CLASSES,
    LOSS_AND_WEIGHT,
    SECOND_SUM,
    SLOTS,
    STATISTIC,
    row_labels,
)

ROW_ARRAYS = ("sample_weight", "where", "pos_weight")
Labels = tuple[str, ...]


def aligned_rows(o: Operands, x: Array, row_axes: tuple[int, ...]) -> Operands:
    """Return operands whose rows are in the chunks of x; a row's list of classes is in one."""
    made = {}
    for name, a in (("targets", o.targets), ("indices", o.indices)):
        if a is not None:
            whole = a if o.indices is None else a.rechunk({a.ndim - 1: -1})
            said = "targets: indices" if name == "indices" else name
            made[name] = rechunk_like(said, whole, x, row_axes)
    for name in ROW_ARRAYS:
        if (a := getattr(o, name)) is not None:
            made[name] = broadcast_like(name, a, x, row_axes)
    return o._replace(**made)


class CallGraph:
    """One call's arrays in the same chunks, and the blockwise steps over them."""

    def __init__(self, call: LossCall) -> None:
        choose(call)
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
        o = aligned_rows(o, self.x, row_axes)
        self.soft = bool(call.classes) and o.targets is not None and o.targets.ndim == n
        self.target_index = (*self.rows, SLOTS) if few else self.index if self.soft else self.rows
        if self.soft and not few:
            o = o._replace(targets=rechunk_like("targets", o.targets, self.x, axes))
        if o.class_weight is not None:
            o = o._replace(class_weight=o.class_weight.rechunk(-1))
        self.o = o
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
        for name in ROW_ARRAYS:
            add(name, getattr(self.o, name), self.rows)
        if x or not self.soft or self.o.indices is not None:
            add("targets", self.o.targets, self.target_index)
            add("indices", self.o.indices, self.target_index)
            add("class_weight", self.o.class_weight, (CLASS_WEIGHT,))
        for name, array, index in more:
            add(name, array, index)
        row_chunks = None
        if self.options.validate is True and x:
            row_chunks = self.x.chunks[: len(self.rows)]
            add("block", ArrayBlockIdDep(row_chunks), self.rows)
        return blockwise(
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
            concatenate=True,
            dtype=dtype,
        )

    def prepare_stats(self) -> None:
        """Build the merged statistics, and the second sums where the kind has them."""
        of_slices = (*self.rows, CLASSES, STATISTIC)
        number = len(class_slices.FIELDS)
        slices = self.map(steps.stats, of_slices, new={STATISTIC: number}, adjust={CLASSES: 1})
        self.packed = blockwise(
            steps.merge,
            (*self.rows, STATISTIC),
            slices,
            of_slices,
            options=self.options,
            compute_dtype=str(self.call.cx.compute_dtype),
            concatenate=True,
            dtype=np.float64,
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
            self.second_sums = added(shares, -2)

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
            return added(shares[..., 0], -1), shares[..., 0, 1]
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
        target: Any = self.x if want == "x" else self.o.targets
        step = partial(steps.gradient, want=want)
        index = self.index if want == "x" else self.target_index
        return self.map(step, index, *more, dtype=target.dtype)
