"""The second sweep over rows that are still in the cache: entropy, and the target's rank.

It starts from the statistics that the kernel of the loss has written, one kernel for each of its
two. For what the numbers are called with see `arguments.ScanIn`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...row_layout import RowLayout
from .. import arguments
from ..kernel_cache import inline, kernel
from .bits import NO_BOUND, f8, i4, i8, stored, to_compute, u1, widen
from .columns import locate
from .functions import DOWN, scale_of
from .lanes import LANES, load, table
from .lanes import exponentials as exponentials_of_lanes
from .rows import BUFFER_STEP, L1_CHUNK
from .slice_loops import (
    CONTRACT,
    FAST,
    capped,
    count_equal,
    decoded,
    exponentials,
    sum_padded,
)

_AT = len(arguments.RowRange._fields)
_REST = _AT + len(RowLayout._fields)


@inline()
def unpack_scan(numbers: Any) -> Any:
    """Return a kernel's numbers as the three records of a scan."""
    return (
        arguments.RowRange(*numbers[:_AT]),
        RowLayout(*numbers[_AT:_REST]),
        arguments.ScanIn(*numbers[_REST:]),
    )


@inline(fastmath=CONTRACT)
def times_gaps(z: Any, m: Any, zero: Any, e: Any) -> None:
    """Multiply e by m - z: (n,) each; 0 at the maximum, and for a class whose e is 0."""
    for j in range(len(e)):
        e[j] = zero if (z[j] == m) | (e[j] == zero) else e[j] * (m - z[j])


@inline(fastmath=FAST)
def count_above(x: Any, v: Any) -> Any:
    """Return the number of entries that are larger than v."""
    n = i4(0)
    for j in range(len(x)):
        n += i4(x[j] > v)
    return n


@kernel
def scan_rows(like: Any, *numbers: Any) -> None:
    """Scan rows whose classes lie side by side, in chunks, as `rows` does."""
    block, at, given = unpack_scan(numbers)
    first, count, classes = block
    one = to_compute(1.0, like)
    zero = one - one
    logits = stored(at.address, NO_BOUND, like)  # (all rows, classes), as laid out by `at`
    labels, present = stored(given.labels, count, i8(0)), stored(given.row_present, count, u1(0))
    maxima = stored(given.maxima, count, one)
    gaps, ahead = stored(given.gaps, count, 0.0), stored(given.ahead, count, i8(0))
    memory = np.empty(3 * BUFFER_STEP + 64, np.uint8)
    buffers = (memory.ctypes.data + 63) // 64 * 64
    decoded_chunk = stored(buffers, L1_CHUNK, one)
    capped_chunk = stored(buffers + BUFFER_STEP, L1_CHUNK, one)
    exp_chunk = stored(buffers + 2 * BUFFER_STEP, L1_CHUNK, one)
    cap, capping = to_compute(given.softcap, one), given.softcap > 0.0
    summed = given.gaps != 0
    for i in range(count):
        ahead[i] = 0
        if summed:
            gaps[i] = 0.0
        if given.row_present != 0 and present[i] == 0:
            continue
        r = first + i
        start = (r // at.inner) * at.outer_step + (r % at.inner) * at.inner_step
        row = logits[start : start + classes]
        top = maxima[i]
        near, unit, scale = scale_of(top, one)
        y = labels[i] if 0 <= labels[i] < classes else 0  # written to since it was checked
        v = widen(row[y])
        # Below the maximum a label is not correct, which is all that is asked without a rank.
        counted = given.ranked or capping or v == top
        gap, before = 0.0, i8(0)
        for a in range(0, classes if summed or counted else 0, L1_CHUNK):
            n = min(L1_CHUNK, classes - a)
            x = decoded(row[a : a + n], decoded_chunk)
            if summed:
                z = x
                if capping:
                    capped(x, cap, capped_chunk)
                    z = capped_chunk[:n]
                exponentials(z, near, top, scale, exp_chunk[:n])
                times_gaps(z, top, zero, exp_chunk[:n])
                gap += sum_padded(exp_chunk, n, zero)
            if counted:
                before += i8(count_above(x, v))
                if a < y:
                    before += i8(count_equal(x[: min(n, y - a)], v))
        if summed:
            gaps[i] = gap * (unit * DOWN)
        ahead[i] = before if counted else 1
    memory[0] = 0  # without a use here Numba frees it after the last use of its address


@inline(fastmath=CONTRACT)
def gaps_of_lanes(z: Any, e: Any, m: Any, one: Any, gap: Any) -> None:
    """Write Σ e (m - z) to gap: (LANES,) float64, as `times_gaps` has the terms."""
    zero = one - one
    for i in range(LANES):
        gap[i] = 0.0
    for c in range(len(z)):
        row, exps = z[c], e[c]
        for i in range(LANES):
            absent = (row[i] == m[i]) | (exps[i] == zero)
            gap[i] += f8(zero if absent else exps[i] * (m[i] - row[i]))


@inline(fastmath=CONTRACT)
def ahead_of_lanes(x: Any, v: Any, y: Any, out: Any) -> None:
    """Count the classes before y, whose logit is v: y and out (LANES,) int32, v as x."""
    for i in range(LANES):
        out[i] = 0
    for c in range(len(x)):
        row, number = x[c], i4(c)
        for i in range(LANES):
            out[i] += i4((row[i] > v[i]) | ((row[i] == v[i]) & (number < y[i])))


@kernel
def scan_columns(like: Any, *numbers: Any) -> None:
    """Scan rows of few classes, or whose classes lie apart, LANES rows at once as `columns`."""
    block, at, given = unpack_scan(numbers)
    first, count, classes = block
    one = to_compute(1.0, like)
    zero = one - one
    logits = stored(at.address, NO_BOUND, like)  # (all rows, classes), as laid out by `at`
    labels = stored(given.labels, count, i8(0))
    maxima = stored(given.maxima, count, one)
    gaps, ahead = stored(given.gaps, count, 0.0), stored(given.ahead, count, i8(0))
    cap, capping = to_compute(given.softcap, one), given.softcap > 0.0
    # ---- a block's numbers, (classes, LANES)
    z, e = table(classes, one, zero), table(classes, one, zero)
    x = table(classes, one, zero) if capping else z  # before the cap
    # ---- a block's numbers, (LANES,)
    m, at_label = np.full(LANES, one), np.full(LANES, one)
    y, before = np.zeros(LANES, np.int32), np.zeros(LANES, np.int32)
    gap, starts = np.empty(LANES), np.empty(LANES, np.int64)
    for start in range(0, count, LANES):
        n = min(LANES, count - start)
        load(logits, starts, locate(first + start, n, at, starts), at.class_step, n, x)
        for i in range(n):
            m[i] = maxima[start + i]
            label = labels[start + i]
            y[i] = label if 0 <= label < classes else 0  # written to since it was checked
            at_label[i] = x[y[i], i]
        ahead_of_lanes(x, at_label, y, before)
        for i in range(n):
            ahead[start + i] = before[i]
        if given.gaps == 0:
            continue
        for c in range(classes if capping else 0):
            capped(x[c], cap, z[c])
        exponentials_of_lanes(z, m, one, e)
        gaps_of_lanes(z, e, m, one, gap)
        for i in range(n):
            gaps[start + i] = gap[i] * DOWN
