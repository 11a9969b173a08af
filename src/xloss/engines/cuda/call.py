"""One call of the CUDA engine: launches the kernels on the addresses of its arrays."""

from __future__ import annotations

from math import nan
from typing import Any

from ..._arrays.inspect import Array, dtype_name
from ...core.options import Cotangent, Outcome, Outputs, Saved
from .. import memory_checks
from ..row_layout import RowLayout, gpu_row_layout
from .arguments import CALL, NOT_GIVEN, NOWHERE, SUMS, RowArguments, SumArguments
from .call_arrays import COTANGENT, GRADIENT, KEPT, LOSS, CallArrays
from .kernel_variants import (
    Kernels,
    is_few,
    kept_stats,
    kernels_of,
    pixels_of,
    sums_of,
)
from .launch_plan import KINDS, VECTOR, Asked
from .pixel_plan import inner_inverse, rows_of_thread

_GRID = 2**31 - 1
_SPAN = 1024  # rows that one block adds up
# Blocks of a launch that usually has nothing to do: a block costs time even if it returns at once.
_SELDOM = 4096
_WORKERS = 256  # threads of a block that adds up
_LOADS = 8  # vectors of labels that each of them reads where a block counts them
_NO_SUMS, _NO_ROWS = bytes(SUMS.size), bytes(CALL.size)


class Launcher(CallArrays):
    """The launches of one call."""

    def kernels(self, to: RowLayout | None, adds: bool = True) -> Kernels:
        """Return the kernels; to: where the gradient's rows lie; adds: rows may be added up."""
        options = self.options
        asked = Asked(
            stored=dtype_name(self.o.x.dtype),
            soft=self.soft,
            labels=self.targets.labels.type if options.indexed else 0,
            weighed=self.weighed,
            flat=self.x.inner >= self.count,
            smooth=options.label_smoothing > 0,
            cap=options.softcap is not None,
            z_loss=options.z_loss > 0,
            grad=to is not None,
        )
        few = is_few(self.count, self.classes)
        pixels = 0 if few else rows_of_thread(asked, self.count, self.classes, self.x, to)
        if pixels:
            return pixels_of(asked, self.classes, pixels, adds, self.arrays, self.index)
        few = few and adds
        return kernels_of(asked, self.classes, self.x.class_step != 1, few, self.arrays, self.index)

    def rows(
        self,
        of: Kernels,
        grad: RowLayout | None,
        cotangent: Array | float,
        stats: dict[str, int],
        added: bytes | None = None,
        seldom: bool = False,
        **fields: int,
    ) -> None:
        """Launch the kernels of rows; stats, fields: of `RowArguments`, what they read and write.

        given_statistics: 1 where the statistics are read and not written; 2 where the gradient for
        a cotangent of 1 is there too, which stands if the cotangent is 1.
        """
        options, count = self.options, self.count
        value, column, by_row = 1.0, NOT_GIVEN, 0
        if isinstance(cotangent, float):
            value = cotangent
        else:
            column, by_row = self.column(cotangent, KINDS, COTANGENT), int(cotangent.ndim > 0)
        to = NOWHERE
        if grad is not None:
            to = RowLayout(self.place(grad.address, GRADIENT), *grad[1:])
        packed = RowArguments(
            count,
            self.classes,
            self.x_planned,
            to,
            self.targets,
            cotangent=column,
            cotangent_step=by_row,
            cotangent_value=value,
            label_smoothing=options.label_smoothing,
            z_loss=options.z_loss,
            softcap=options.softcap or 0.0,
            work=self.room(self.cx.sum_dtype, count * of.left // 8) if of.left else 0,
            inner_inverse=inner_inverse(self.x.inner) if of.pixels else 0,
            **stats,
            **fields,
        ).packed()
        if added is not None:
            packed += added
        most = _SELDOM if seldom else _GRID
        for kernel, step in of.kernels:
            self.launch(kernel, step.grid(count, most), step.plan.threads, packed, CALL.size)
        self.pixels_each = of.pixels

    def needed(self, outputs: Outputs, cotangent: Cotangent, saved: Saved) -> Outcome:
        """Compute the outputs asked for, except elements and gradients to targets."""
        memory_checks.check_gradient(cotangent, saved, self.shape, self.cx)
        cx, address = self.cx, self.address
        rows = self.empty(cx.compute_dtype, *self.shape) if outputs.rows else None
        losses = weights = 0
        if rows is not None:
            losses = address(rows)
        elif outputs.total:
            losses = self.room(cx.compute_dtype, self.count)
        made = grad = total = weight = None
        to: RowLayout | None = None
        stats = {}
        if saved is not None:
            stats = {"maxima": address(saved[0]), "tail_sums": address(saved[1])}
        elif outputs.stats:
            made = self.empty(cx.compute_dtype, *self.shape), self.empty(cx.sum_dtype, *self.shape)
            stats = {"maxima": address(made[0]), "tail_sums": address(made[1])}
        if outputs.grad:
            grad, to = self.like_x()
        if outputs.weight and not self.options.indexed:
            weights = self.room(cx.sum_dtype, self.count)
        if losses or weights or grad is not None or outputs.stats:
            live = cotangent.any_row_counts
            self.rows(
                self.kernels(to, adds=False),
                to,
                cotangent.row_loss,
                stats,
                losses=losses,
                weights=weights,
                given_statistics=int(saved is not None),
                any_row_counts=0 if live is None else address(live),
            )
        if outputs.total or outputs.weight:
            sums = SumArguments(self.count, losses if outputs.total else 0, weights)
            if outputs.total:
                total = self.empty(cx.sum_dtype)
                sums = sums._replace(total=address(total))
            if outputs.weight:
                weight = self.empty(cx.sum_dtype)
                sums = sums._replace(total_weight=address(weight))
            self.add(sums, outputs.weight)
        self.launch_all()
        return Outcome(rows=rows, total=total, weight=weight, grad=grad, stats=made)

    def add(self, sums: SumArguments, weighs: bool) -> None:
        """Add up row losses and, if `weighs`, row weights: as written, or found from the labels."""
        rows, span, labels = _NO_ROWS, _SPAN, None
        if weighs and not sums.weights:  # the kernel finds them from labels and class weights
            rows = RowArguments(self.count, self.classes, NOWHERE, NOWHERE, self.targets).packed()
            if not (sums.losses or self.weighed):  # it counts those that are not ignored
                labels = self.targets.labels.type
                span = _WORKERS * _LOADS * (VECTOR >> labels % 4)  # as ROWS_OF_BLOCK of counts.cuh
        count = self.count if sums.losses or weighs else 0
        kernel = sums_of(self.cx.compute_dtype, self.arrays, self.index, labels)

        def launch(count: int, blocks: int, partial: int = 0, counter: int = 0) -> None:
            packed = sums._replace(
                rows=count,
                partial=partial,
                adds_partial_sums=int(blocks == 1 and partial != 0),
                finishes=int(blocks == 1),
                counter=counter,
            ).packed()
            self.launch(kernel, blocks, _WORKERS, packed + rows, SUMS.size)

        if count <= span:
            launch(count, 1)
            return
        blocks = -(-count // span)
        partial = self.room(self.cx.sum_dtype, 2 * blocks)
        # Where blocks can be counted, the last one to end adds up their sums; else one more launch.
        counter = self.shared_room()
        launch(count, blocks, partial, counter)
        if not counter:
            launch(blocks, 1, partial)

    def reduced(
        self,
        normalizer: Any,
        cotangent: Array | float,
        weight: Array | None,
        *,
        grad: bool,
        keep: bool,
    ) -> tuple[Array, Array | None, Array | None]:
        """Return the mean or the sum, its gradient times the cotangent, and what `again` reads.

        weight: the denominator of a mean, where the kernel of rows cannot find it before its rows.
        """
        cx, count = self.cx, self.count
        memory_checks.check_gradient(Cotangent(cotangent), None, self.shape, cx)
        memory_checks.check_numbers(cx, normalizer=normalizer, weight=weight)
        averages, labelled = self.options.reduction == "mean", self.options.indexed
        loss = self.empty(cx.compute_dtype)
        loss_at = self.address(loss, LOSS)
        gradient = kept = None
        to: RowLayout | None = None
        at, stats = 0, {}
        if grad:
            gradient, to = self.like_x()
        if keep:
            kept = self.empty(cx.sum_dtype, 2 + 2 * count)
            at = self.address(kept, KEPT)
            stats = kept_stats(at, count)
        divisor, column = nan, NOT_GIVEN
        if isinstance(normalizer, (int, float)):
            divisor = float(normalizer)
        elif normalizer is not None:
            column = self.column(normalizer, KINDS)
        sums = SumArguments(
            count,
            0,
            0,
            weight=0 if weight is None else self.address(weight),
            normalizer=column,
            divisor=divisor,
            is_mean=averages,
        )
        weighs = averages and weight is None
        first = averages and grad  # the gradient of every row needs the sum of the weights
        kernels = self.kernels(to)
        counter = self.shared_room() if kernels.adds else 0
        few = 0 if kernels.pixels else counter  # where one launch of few rows leaves numbers
        row_factor = losses = weights = 0
        if averages and (grad or keep):
            row_factor = at or (few + 8 if few else self.room(cx.sum_dtype, 2))
        before = first and not few
        if before:
            self.add(sums._replace(row_factor=row_factor), weighs)
        if not kernels.pixels:
            losses = few + 24 if few else self.room(cx.compute_dtype, count)
            if weighs and not labelled:
                weights = losses + 8 * count if few else self.room(cx.sum_dtype, count)
        sums = sums._replace(losses=losses, weights=weights, loss=loss_at)
        sums = sums._replace(row_factor=0 if before else row_factor)
        added = _NO_SUMS if kernels.adds else None
        if kernels.pixels:  # their launch adds them up, block by block
            blocks = -(-count // kernels.kernels[0][1].rows)
            partial = self.room(cx.sum_dtype, 2 * blocks)
            sums = sums._replace(rows=blocks, partial=partial, adds_partial_sums=1, counter=counter)
            added = sums.packed()
        elif few:
            added = sums._replace(counter=few, before_rows=first).packed()
        self.rows(
            kernels,
            to,
            cotangent,
            stats,
            added,
            losses=losses,
            weights=weights,
            row_factor=row_factor if grad else 0,
        )
        if not kernels.pixels and not few:
            self.add(sums, weighs)
        elif not counter:
            kernel = sums_of(cx.compute_dtype, self.arrays, self.index)
            self.launch(kernel, 1, _WORKERS, sums.packed() + _NO_ROWS, SUMS.size)
        self.launch_all()
        return loss, gradient, kept

    def again(self, cotangent: Array, kept: Array, grad: Array | None) -> Array:
        """Return the gradient of what `reduced` kept, times the cotangent.

        grad: the gradient for a cotangent of 1, which is overwritten unless the cotangent is 1.
        """
        memory_checks.check_again(cotangent, kept, grad, self.o.x, self.shape, self.cx)
        at = self.address(kept, KEPT)
        if grad is None:
            made, to = self.like_x()
        else:
            made = grad
            to = gpu_row_layout(self.arrays, grad) or NOWHERE
        kernels = self.kernels(to)
        self.rows(
            kernels,
            to,
            cotangent,
            kept_stats(at, self.count),
            _NO_SUMS if kernels.adds else None,
            seldom=grad is not None,
            given_statistics=1 if grad is None else 2,
            row_factor=at if self.options.reduction == "mean" else 0,
        )
        self.launch_all()
        return made
