"""The launches of a mean or a sum whose rows lie side by side and their classes apart."""

from __future__ import annotations

from typing import Any

from ..._arrays.inspect import Array
from ..row_layout import RowLayout
from .arguments import CALL, SUMS, SumArguments
from .kernel_variants import Kernels, sums_of
from .launch_plan import VECTOR

WORKERS = 256  # threads of a block that adds up
NO_ROWS = bytes(CALL.size)
_LOADS = 8  # vectors of labels that each thread reads where a block counts them


def labels_of_block(kind: int) -> int:
    """Return how many labels of a type, as `Column` names it, a block of counts.cuh counts."""
    return WORKERS * _LOADS * (VECTOR >> kind % 4)


def reduce_pixels(
    call: Any,
    kernels: Kernels,
    sums: SumArguments,
    loss: int,
    to: RowLayout | None,
    kept: int,
    stats: dict[str, int],
    cotangent: Array | float,
) -> None:
    """Compute rows that lie side by side, whose launch adds them up too, block by block."""
    averages, first = bool(sums.is_mean), bool(sums.is_mean and to is not None)
    row_factor = 0
    if averages and (first or kept):
        row_factor = kept or call.room(call.cx.sum_dtype, 2)
    if first:
        call.add(sums._replace(row_factor=row_factor), True)
    blocks = -(-call.count // kernels.kernels[0][1].rows)
    counter = call.shared_room()
    sums = sums._replace(
        rows=blocks,
        partial=call.room(call.cx.sum_dtype, 2 * blocks),
        adds_partial_sums=1,
        loss=loss,
        row_factor=0 if first else row_factor,
        counter=counter,
    )
    row_factor = row_factor if first else 0
    call.rows(kernels, to, cotangent, sums.packed(), row_factor=row_factor, **stats)
    if not counter:
        kernel = sums_of(call.cx.compute_dtype, call.arrays, call.index)
        packed = sums.packed() + NO_ROWS
        call.launch(kernel, 1, WORKERS, packed, SUMS.size)
