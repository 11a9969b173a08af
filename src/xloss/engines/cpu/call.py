"""One call of the host engine: its arrays as addresses, its rows cut into blocks for threads."""

from __future__ import annotations

from itertools import accumulate
from math import fsum, prod
from typing import Any

import numpy as np

from ..._arrays.context import context, read
from ..._arrays.inspect import Array, dtype_name
from ...core.call import LossCall
from ...core.options import Cotangent, Operands, Outcome, Outputs, Saved
from ...core.row_blocks import block_slices
from ...core.targets import prepare
from ..row_layout import (
    ALIGNED_FROM,
    RowLayout,
    aligned,
    element_address,
    readable_labels,
    row_layout,
)
from . import thread_pool
from .arguments import CotangentIn, OptionValues, RowRange, RowsOut, TargetsIn

# Classes up to which several rows to a vector are faster than several classes. Beyond, rows whose
# classes lie apart are copied to C order block by block, so that no bit depends on the layout.
COLUMN_KERNEL_MAX_CLASSES = 96
THREAD_CHUNK = 2**20  # logits handed to a thread at once
MIN_BLOCKS = 8  # blocks of a call at least, where none has fewer than SINGLE_THREAD_MAX logits
COPIED_LOGITS = 2**18  # logits of a block that is copied to C order
MAX_BLOCK_ROWS = 2**14  # labels and weights that must be converted are so block by block
SINGLE_THREAD_MAX = 2**16  # logits: below, waking another thread costs more than it saves
REQUIRED: Any = ("C", "ALIGNED")  # what a kernel needs of an array that it reads by its address


class HostCall:
    """One call: what its row blocks share, and the arrays that they write to.

    Memory that a kernel reads or writes by its address lives as long as the object, or through
    `held` as long as the kernel runs.
    """

    def __init__(
        self, kernels: Any, call: LossCall, outputs: Outputs, cotangent: Cotangent, saved: Saved
    ) -> None:
        o, options, cx, classes = call.operands, call.options, call.cx, call.classes
        self.x, self.options, self.cx = o.x, options, cx
        self.classes, self.outputs = classes, outputs
        self.row_shape = tuple(o.x.shape[:-1])
        self.count = prod(self.row_shape)
        self.by_rows = classes > COLUMN_KERNEL_MAX_CLASSES
        self.kernel = kernels.rows if self.by_rows else kernels.columns
        self.like = kernels.like[dtype_name(o.x.dtype)]
        self.compute_dtype = np.dtype(dtype_name(cx.compute_dtype))
        # Targets are prepared by NumPy whatever the logits' library.
        self.host_cx = (
            cx
            if cx.library == "numpy"
            else read(context(np.empty(0, self.compute_dtype), np), cx.labels_verified)
        )
        self.soft = None if options.indexed else o.targets
        weight = None if o.class_weight is None else self.in_compute_dtype(o.class_weight)
        self.class_weight = weight
        # The kernel reads soft targets itself; `prepare` finds what a row weighs beside them.
        self.operands = Operands(
            None,
            self.host(o.targets) if options.indexed else None,
            weight if options.indexed else None,
            self.host(o.sample_weight),
            self.host(o.where),
        )
        labels_only = cx.labels_verified and weight is o.sample_weight is o.where is None
        # The address of labels that the kernel can read as they are; 0 where they need preparing.
        self.labels = readable_labels(self.operands.targets) if labels_only else 0
        self.cotangent, self.cotangents = 1.0, None
        if isinstance(cotangent.row_loss, float) or cotangent.row_loss.ndim == 0:
            self.cotangent = float(cotangent.row_loss)
        else:
            self.cotangents = self.each_row(cotangent.row_loss, np.float64)
        counts = cotangent.any_row_counts
        self.no_row_counts = counts is not None and not bool(counts)
        self.option_values = OptionValues(
            options.label_smoothing, options.z_loss, options.softcap or 0.0
        )
        layout = row_layout(o.x)
        copied = layout is None or (self.by_rows and layout.class_step != 1)
        self.layout = None if copied else layout  # None: each block is copied to C order
        self.make_outputs(saved)

    def make_outputs(self, saved: Saved) -> None:
        """Make the arrays that are asked for; take saved statistics where the kernel reads them."""
        count, outputs = self.count, self.outputs
        self.losses = np.empty(count, self.compute_dtype) if outputs.rows else None
        self.maxima = self.tail_sums = None
        # Smoothing and soft targets need sums over a row that are not saved.
        indexed, smoothing = self.options.indexed, self.options.label_smoothing
        self.stats_saved = saved is not None and indexed and not smoothing
        if saved is not None and self.stats_saved:
            self.maxima = self.each_row(saved[0], self.compute_dtype)
            self.tail_sums = self.each_row(saved[1], np.float64)
        elif outputs.stats:
            self.maxima, self.tail_sums = np.empty(count, self.compute_dtype), np.empty(count)
        self.grad: Any = None
        self.grad_layout = RowLayout()
        if outputs.grad:
            self.make_gradient()

    def make_gradient(self) -> None:
        """Make the gradient's array, with the logits' order of axes where a kernel can write it."""
        xp, x = self.cx.xp, self.x
        numpy = self.cx.library == "numpy"
        dtype = x.dtype.newbyteorder("=") if numpy else x.dtype
        if numpy:
            if x.size >= ALIGNED_FROM and x.flags.c_contiguous:
                self.grad = aligned(x.shape, dtype)
            else:  # subok: a memory map's gradient is an ordinary array
                self.grad = np.empty_like(x, dtype, subok=False)
        elif x.is_contiguous():
            # NumPy asks the system for large pages. PyTorch does not, and filling its fresh memory
            # takes twice as long.
            bits = np.empty(tuple(x.shape), f"i{x.element_size()}")
            self.grad = xp.from_numpy(bits).view(dtype)
        else:
            self.grad = xp.empty_like(x)
        layout = row_layout(self.grad)
        if layout is None or (self.by_rows and layout.class_step != 1):
            self.grad = xp.empty(x.shape, dtype=dtype, device=self.cx.device)
            layout = row_layout(self.grad)
        assert layout is not None  # C order always has a layout
        self.grad_layout = layout

    def host(self, a: Array | None) -> Any:
        """Return a NumPy array on the same memory; bfloat16, which NumPy lacks, as float32."""
        if a is None or isinstance(a, (np.ndarray, np.generic)):
            return None if a is None else np.asarray(a)
        a = a.detach()
        # force: a cotangent may be a negated view, or zeros of autograd's without memory.
        return (a.float() if dtype_name(a.dtype) == "bfloat16" else a).numpy(force=True)

    def each_row(self, a: Array, dtype: Any) -> Any:
        """Return numbers of shape (*rows) as (count,) in C order and a dtype."""
        return np.require(self.host(a), dtype, REQUIRED).reshape(-1)

    def in_compute_dtype(self, a: Array) -> Any:
        """Return an array in C order and in the compute dtype."""
        return np.require(self.host(a), self.compute_dtype, REQUIRED)

    def block_rows(self) -> int:
        """Return how many rows a block has at most.

        It follows from shapes and layout alone, never from the number of threads: the columns
        kernel adds up the losses of LANES rows in float64, so that a total's bits depend on where
        blocks begin. The rows kernel adds losses one by one, with what rounding loses.
        """
        most = COPIED_LOGITS if self.layout is None and self.by_rows else THREAD_CHUNK
        share = max(SINGLE_THREAD_MAX, self.count * self.classes // MIN_BLOCKS)
        return max(1, min(int(min(most, share) // self.classes), MAX_BLOCK_ROWS))

    def result(self) -> Outcome:
        """Compute all blocks."""
        most, rows = self.block_rows(), self.row_shape
        blocks, counts = [(slice(None),) * len(rows)], [self.count]
        if self.count > most:
            blocks = list(block_slices(rows, self.classes, self.host_cx, most))
            each_row = np.broadcast_to(0, rows)
            counts = [each_row[block].size for block in blocks]
        firsts = list(accumulate(counts, initial=0))
        totals = np.zeros((len(blocks), 4))

        def task(i: int) -> None:
            self.run_block(blocks[i], firsts[i], counts[i], totals[i])

        if self.count * self.classes < SINGLE_THREAD_MAX or len(blocks) == 1:
            for i in range(len(blocks)):
                task(i)
        else:
            thread_pool.run(task, len(blocks))
        return self.outcome(totals)

    def run_block(self, block: tuple[slice, ...], first: int, count: int, totals: Any) -> None:
        """Compute `count` rows from row `first` on, which are `block` of the rows' axes.

        totals: (4,) float64 of this block alone.
        """
        held: list[Any] = []
        if self.labels:
            targets = TargetsIn(0, 0, self.labels + 8 * first)
        else:
            targets, held = self.block_targets(block, count)
        logits = self.layout
        if logits is None:
            x, address = self.block_copy(block)
            held.append(x)
            # The kernel counts rows from the first of the call, the copy from row `first`.
            address -= first * self.classes * self.like.itemsize
            logits = RowLayout(address, 2**60, 0, self.classes, 1)
        self.kernel(
            self.like,
            *RowRange(first, count, self.classes),
            *logits,
            *targets,
            *CotangentIn(
                element_address(self.cotangents, first), self.cotangent, self.no_row_counts
            ),
            *self.option_values,
            *RowsOut(
                self.stats_saved,
                element_address(self.losses, first),
                element_address(totals, 0) if self.outputs.total else 0,
                element_address(self.maxima, first),
                element_address(self.tail_sums, first),
            ),
            *self.grad_layout,
        )
        self.scan(first, count, logits)

    def scan(self, first: int, count: int, logits: RowLayout) -> None:
        """Do what a subclass has to do with the rows of a block while they are in the cache."""

    def block_copy(self, block: tuple[slice, ...]) -> tuple[Array, int]:
        """Return the logits of a block in C order, and their address."""
        if self.cx.library == "torch":
            x = self.x.detach()[block].contiguous()
            x = x.clone() if row_layout(x) is None else x  # contiguous, but not aligned
        else:
            x = np.require(self.x[block], self.x.dtype.newbyteorder("="), REQUIRED)
        layout = row_layout(x)
        assert layout is not None  # C order always has a layout
        return x, layout.address

    def block_targets(self, block: tuple[slice, ...], count: int) -> tuple[TargetsIn, list[Any]]:
        """Prepare the targets of a block; return their addresses, and what must live meanwhile."""
        whole = count == self.count
        o = self.operands
        if not whole:

            def part(a: Any) -> Any:
                return None if a is None else a[block].reshape(-1)

            o = Operands(
                None, part(o.targets), o.class_weight, part(o.sample_weight), part(o.where)
            )
        soft = None
        with np.errstate(all="ignore"):
            t = prepare(o, self.options, self.host_cx, self.classes)
            if self.soft is not None:
                soft = self.in_compute_dtype(self.soft if whole else self.soft[block])
        held: list[Any] = [t, soft]

        def address(a: Any, dtype: Any) -> int:
            """Return the address of an array, or of a copy that the kernel can read."""
            if a is None:
                return 0
            # Of one row NumPy makes scalars, whose address is that of a temporary copy.
            fits = isinstance(a, np.ndarray) and a.dtype == dtype
            if not (fits and a.flags.c_contiguous and a.flags.aligned):
                a = np.require(a, dtype, REQUIRED)
                held.append(a)
            return element_address(a, 0)

        addresses = TargetsIn(
            address(soft, self.compute_dtype),
            address(self.class_weight, self.compute_dtype),
            address(t.labels, np.int64),
            address(t.row_present, np.bool_),
            address(t.label_invalid, np.bool_),
            address(t.sample_weight, np.float64),
            address(t.label_weight, np.float64),
        )
        return addresses, held

    def in_library(self, a: Any) -> Any:
        """Return a NumPy array or scalar as an array of the logits' library."""
        return a if self.cx.library == "numpy" else self.cx.xp.from_numpy(np.asarray(a))

    def shaped(self, a: Any) -> Any:
        """Return numbers of each row, (count,), as an array (*rows) of the logits' library."""
        return None if a is None else self.in_library(a.reshape(self.row_shape))

    def outcome(self, totals: Any) -> Outcome:
        """Return what was asked for as arrays of the logits' library; totals: (blocks, 4)."""
        cx, outputs = self.cx, self.outputs
        in_library, shaped = self.in_library, self.shaped
        new_stats = outputs.stats and not self.stats_saved
        return Outcome(
            rows=shaped(self.losses),
            total=in_library(_sum(totals[:, :2])) if outputs.total else None,
            weight=in_library(_sum(totals[:, 2:])) if outputs.weight else None,
            grad=None if self.grad is None else cx.cast(self.grad, self.x.dtype),
            stats=(shaped(self.maxima), shaped(self.tail_sums)) if new_stats else None,
        )


def _sum(parts: Any) -> Any:
    """Return the sum of all, rounded once; infinities and NaN as plain addition gives them."""
    try:
        return np.float64(fsum(parts.ravel().tolist()))
    except (OverflowError, ValueError):
        return np.sum(parts)
