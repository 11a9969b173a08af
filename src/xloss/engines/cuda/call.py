"""One call of the CUDA engine: launches the kernels on the addresses of its arrays."""

from __future__ import annotations

from math import nan
from typing import Any

from ..._arrays.inspect import Array, dtype_name
from ...core.options import Cotangent, Outcome, Outputs, Saved
from ...core.reduce import exact_sum
from .. import memory_checks
from ..row_layout import RowLayout, gpu_row_layout
from .arguments import NOT_GIVEN, NOWHERE, Arguments
from .call_arrays import COTANGENT, GRADIENT, KEPT, LOSS, CallArrays
from .kernel_variants import Kernels, is_few, kernels_of, pixels_of, sums_of
from .launch_plan import KINDS, Asked
from .pixel_plan import inner_inverse, rows_of_thread

_GRID = 2**31 - 1
_SPAN = 1024  # rows that one block adds up, as SPAN of sums.cuh
# Blocks of a launch that usually has nothing to do: a block costs time even if it returns at once.
_SELDOM = 4096
_WORKERS = 256  # threads of a block that adds up


class Launcher(CallArrays):
    """The launches of one call."""

    def kernels(self, to: RowLayout | None, adds: bool = True) -> Kernels:
        """Return the kernels; to: where the gradient's rows lie; adds: rows may be added up."""
        options = self.options
        asked = Asked(
            stored=dtype_name(self.o.x.dtype),
            soft=self.soft,
            labels=self.given.labels.type,
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
        given: Arguments,
        grad: RowLayout | None,
        cotangent: Array | float,
        seldom: bool = False,
    ) -> None:
        """Launch the kernels of rows.

        given.given_statistics: 1 where the statistics are read and not written; 2 where the
        gradient for a cotangent of 1 is there too, which stands if the cotangent is 1.
        """
        count = self.count
        if isinstance(cotangent, float):
            given = given._replace(cotangent_value=cotangent)
        else:
            column = self.column(cotangent, KINDS, COTANGENT)
            given = given._replace(cotangent=column, cotangent_step=int(cotangent.ndim > 0))
        if grad is not None:
            to = RowLayout(self.place(grad.address, GRADIENT), *grad[1:])
            given = given._replace(gradient=to)
        if of.left:
            given = given._replace(work=self.room(self.cx.sum_dtype, count * of.left // 8))
        if of.pixels:
            given = given._replace(inner_inverse=inner_inverse(self.x.inner))
        most = _SELDOM if seldom else _GRID
        for kernel, step in of.kernels:
            self.launch(kernel, step.grid(count, most), step.plan.threads, given)
        self.pixels_each = of.pixels

    def needed(self, outputs: Outputs, cotangent: Cotangent, saved: Saved) -> Outcome:
        """Compute the rows, their sum, the statistics, the gradient to x: what is asked for."""
        memory_checks.check_gradient(cotangent, saved, self.shape, self.cx)
        cx, address = self.cx, self.address
        rows = made = grad = None
        to: RowLayout | None = None
        live = cotangent.any_row_counts
        given = self.given._replace(
            given_statistics=int(saved is not None),
            any_row_counts=0 if live is None else address(live),
        )
        if outputs.rows or outputs.total:
            rows = self.empty(cx.compute_dtype, *self.shape)
            given = given._replace(losses=address(rows))
        if outputs.stats and saved is None:
            made = self.empty(cx.compute_dtype, *self.shape), self.empty(cx.sum_dtype, *self.shape)
        stats = made if saved is None else saved
        if stats is not None:
            given = given._replace(maxima=address(stats[0]), tail_sums=address(stats[1]))
        if outputs.grad:
            grad, to = self.like_x()
        self.rows(self.kernels(to, adds=False), given, to, cotangent.row_loss)
        self.launch_all()
        total = exact_sum(cx, rows) if outputs.total else None
        return Outcome(rows if outputs.rows else None, total, grad=grad, stats=made)

    def add(self, given: Arguments) -> None:
        """Add up row losses, if there are any, and the weights that a mean needs."""
        weighs = given.is_mean and not given.total_weight
        count = self.count if given.losses or weighs else 0
        blocks = max(1, -(-count // _SPAN))
        if blocks == 1:
            self.launch_sums(given._replace(rows=count))
            return
        # Where blocks can be counted, the last one to end adds up their sums; else one more launch.
        given = given._replace(
            partial=self.room(self.cx.sum_dtype, 2 * blocks), counter=self.shared_room()
        )
        self.launch_sums(given, blocks)
        if not given.counter:
            self.launch_sums(given._replace(rows=blocks))

    def launch_sums(self, given: Arguments, blocks: int = 1) -> None:
        """Launch the kernel of sums."""
        labels, dtype = given.labels.type, self.cx.compute_dtype
        kernel = sums_of(dtype, labels, self.weighed, self.arrays, self.index)
        self.launch(kernel, blocks, _WORKERS, given)

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
        at = 0
        given = self.given
        if grad:
            gradient, to = self.like_x()
        if keep:
            kept = self.empty(cx.sum_dtype, 2 + 2 * count)
            at = self.address(kept, KEPT)
            given = self.with_kept(at)
        divisor, column = nan, NOT_GIVEN
        if isinstance(normalizer, (int, float)):
            divisor = float(normalizer)
        elif normalizer is not None:
            column = self.column(normalizer, KINDS)
        kernels = self.kernels(to)
        counter = self.shared_room() if kernels.adds else 0
        few = 0 if kernels.pixels else counter  # where one launch of few rows leaves numbers
        row_factor = 0
        if averages and (grad or keep):
            row_factor = at or (few + 8 if few else self.room(cx.sum_dtype, 2))
        given = given._replace(
            row_factor=row_factor,
            total_weight=0 if weight is None else self.address(weight),
            normalizer=column,
            divisor=divisor,
            is_mean=averages,
        )
        first = averages and grad  # the gradient of every row needs the sum of the weights
        if first and not few:
            self.add(given)
        given = given._replace(before_rows=first, loss=loss_at, counter=counter)
        if kernels.pixels:  # their launch adds them up, block by block
            blocks = -(-count // kernels.kernels[0][1].rows)
            given = given._replace(partial=self.room(cx.sum_dtype, 2 * blocks))
            self.rows(kernels, given, to, cotangent)
            if not counter:
                self.launch_sums(given._replace(rows=blocks))
        else:
            losses = few + 24 if few else self.room(cx.compute_dtype, count)
            given = given._replace(losses=losses)
            if averages and weight is None and not labelled:
                weights = losses + 8 * count if few else self.room(cx.sum_dtype, count)
                given = given._replace(weights=weights)
            self.rows(kernels, given, to, cotangent)
            if not few:
                self.add(given)
        self.launch_all()
        return loss, gradient, kept

    def with_kept(self, at: int) -> Arguments:
        """Return what launches are given, with the statistics among what a forward launch keeps.

        It holds the row factor (two numbers), the tail sums, and the maxima.
        """
        return self.given._replace(maxima=at + 16 + 8 * self.count, tail_sums=at + 16)

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
        given = self.with_kept(at)._replace(
            given_statistics=1 if grad is None else 2,
            row_factor=at if self.options.reduction == "mean" else 0,
        )
        self.rows(self.kernels(to), given, to, cotangent, seldom=grad is not None)
        self.launch_all()
        return made
