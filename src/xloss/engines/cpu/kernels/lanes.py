"""Loops over a block of rows, one row to a lane: each runs over arrays of LANES numbers.

Each loop does one thing, because LLVM leaves scalar what computes two sums, or a sum beside a map.
In every function z, a and e are (classes, LANES) in the compute dtype: logits, target weights and
scaled exponentials; m is (LANES,) in the compute dtype, the maxima; w is (classes,), the class
weights. What is (LANES,) beside them is float64, but where something else is said.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from ..kernel_cache import inline
from .bits import by_type, empty, f8, narrow, to_compute, widen
from .functions import DOWN, exp_scaled, log1p
from .memory import fetch, in_line, transposed

LANES = 256
INF = np.inf
CONTRACT = {"contract"}


@inline()
def table(classes: int, one: Any, value: Any) -> Any:
    """Make an array (classes, LANES) of one value."""
    filled = empty((classes, LANES), one)
    filled[:] = value
    return filled


@inline(fastmath=CONTRACT)
def load(logits: Any, starts: Any, order: Any, class_step: int, n: int, out: Any) -> None:
    """Bring n rows into lanes, out: (classes, LANES); lanes without a row keep what they have.

    starts: (LANES,) int64, and order: as `locate` writes and returns them. The next block is
    fetched from memory meanwhile, while this one is computed.
    """
    classes, (side_by_side, apart) = len(out), order
    if side_by_side:
        for c in range(classes):
            start = starts[0] + c * class_step
            for j in range(0, n, in_line(logits)):
                fetch(logits, start + n + j)
            copy_in(logits[start : start + n], out[c])
        return
    in_order = apart > 0 and class_step == 1
    for j in range(0, n * apart if in_order and apart == classes else 0, in_line(logits)):
        fetch(logits, starts[0] + n * apart + j)
    if in_order and transposed(logits, starts[0], apart, out, 0, LANES, n, classes):
        return
    for i in range(n):
        for c in range(classes):
            out[c, i] = widen(logits[starts[i] + c * class_step])


@inline(fastmath=CONTRACT)
def copy_in(source: Any, lanes: Any) -> None:
    """Bring one class of rows that lie side by side, (n,) as stored, into lanes: (LANES,)."""
    for i in range(len(source)):
        lanes[i] = widen(source[i])


@inline(fastmath=CONTRACT)
def copy_out(lanes: Any, target: Any, like: Any) -> None:
    """Round one class, lanes: (LANES,), to rows that lie side by side, target: (n,) as stored."""
    for i in range(len(target)):
        target[i] = narrow(lanes[i], like)


@inline(fastmath=CONTRACT)
def store(
    g: Any, gradient: Any, starts: Any, order: Any, class_step: int, n: int, like: Any
) -> None:
    """Round n rows of g: (classes, LANES) to their places in the gradient, as `load` reads them."""
    classes, (side_by_side, apart) = len(g), order
    if side_by_side:
        for c in range(classes):
            start = starts[0] + c * class_step
            copy_out(g[c], gradient[start : start + n], like)
        return
    in_order = apart > 0 and class_step == 1
    if in_order and transposed(g, 0, LANES, gradient, starts[0], apart, classes, n):
        return
    for i in range(n):
        for c in range(classes):
            gradient[starts[i] + c * class_step] = narrow(g[c, i], like)


@inline(fastmath=CONTRACT)
def maxima_of(z: Any, m: Any) -> None:
    """Write each lane's maximum to m. A NaN wins no comparison; the exponentials show it."""
    for i in range(LANES):
        m[i] = -INF
    for c in range(len(z)):
        row = z[c]
        for i in range(LANES):
            m[i] = row[i] if row[i] > m[i] else m[i]


@inline(fastmath=CONTRACT)
def exponentials(z: Any, m: Any, one: Any, e: Any) -> None:
    """Write exp(z - m)·2^64 to e, 2^64 where both are infinite."""
    top = to_compute(1.0 / DOWN, one)
    for c in range(len(z)):
        row, out = z[c], e[c]
        for i in range(LANES):
            v = exp_scaled(row[i], m[i])
            out[i] = top if row[i] == m[i] else v


@by_type(fastmath=CONTRACT, forceinline=True)
def tail_sums_of(z: Any, m: Any, one: Any, e: Any, ties: Any, lost: Any, tail_sum: Any) -> Any:
    """Write Σ exp(z - m) below the maximum, plus the number of entries at it, minus one.

    z and e have rows beyond the classes, of -inf and 0, up to a multiple of four. ties: (LANES,) in
    the compute dtype; ties and lost are room for the computation.
    """

    def single(z: Any, m: Any, one: Any, e: Any, ties: Any, lost: Any, tail_sum: Any) -> None:
        # Four classes are added in float32, as exact as their exponentials, and then in float64.
        zero = one - one
        for i in range(LANES):
            ties[i], tail_sum[i] = -one, 0.0
        for k in range(0, len(z), 4):
            for i in range(LANES):
                a, b = z[k, i] == m[i], z[k + 1, i] == m[i]
                c, d = z[k + 2, i] == m[i], z[k + 3, i] == m[i]
                part = (zero if a else e[k, i]) + (zero if b else e[k + 1, i])
                part += (zero if c else e[k + 2, i]) + (zero if d else e[k + 3, i])
                tail_sum[i] += f8(part)
                at_top = (one if a else zero) + (one if b else zero)
                ties[i] += at_top + ((one if c else zero) + (one if d else zero))
        for i in range(LANES):
            tail_sum[i] = tail_sum[i] * DOWN + f8(ties[i])

    def double(z: Any, m: Any, one: Any, e: Any, ties: Any, lost: Any, tail_sum: Any) -> None:
        # No wider dtype takes the sum: what each addition loses is summed beside it.
        for i in range(LANES):
            ties[i], lost[i], tail_sum[i] = -1.0, 0.0, 0.0
        for k in range(len(z)):
            for i in range(LANES):
                top = z[k, i] == m[i]
                part, old = 0.0 if top else e[k, i], tail_sum[i]
                new = old + part
                back = new - old
                lost[i] += (old - (new - back)) + (part - back)
                tail_sum[i] = new
                ties[i] += 1.0 if top else 0.0
        for i in range(LANES):
            tail_sum[i] = (tail_sum[i] + lost[i]) * DOWN + ties[i]

    return single if one == types.float32 else double


@inline(fastmath=CONTRACT)
def logarithms(m: Any, tail_sum: Any, log1p_tail: Any, inv: Any) -> None:
    """Write log1p(tail_sum) and 1/(1 + tail_sum); NaN for a row with no possible class."""
    for i in range(LANES):
        masked = m[i] == -INF
        log1p_tail[i] = np.nan if masked else log1p(tail_sum[i])
        inv[i] = np.nan if masked else 1.0 / (1.0 + tail_sum[i])


@inline(fastmath=CONTRACT)
def softmax_lanes(e: Any, factor: Any, first: Any, second: Any, one: Any) -> None:
    """Multiply e, exponentials times 2^64, by each lane's factor, in two steps.

    In one step the factor times 2^-64 may be subnormal. first, second: room, (LANES,) in the
    compute dtype. Where an exponential is 0 so is the result, though the factor be infinite.
    """
    zero = one - one
    for i in range(LANES):
        tiny = abs(factor[i]) < 2.0**-60
        first[i] = to_compute(DOWN if tiny else factor[i] * DOWN, one)
        second[i] = to_compute(factor[i] if tiny else 1.0, one)
    for c in range(len(e)):
        for i in range(LANES):
            absent = (e[c, i] == zero) & (first[i] == first[i])
            e[c, i] = zero if absent else (e[c, i] * first[i]) * second[i]


@inline(fastmath=CONTRACT)
def mixed_lanes(
    z: Any, a: Any, w: Any, m: Any, coefficients: Any, keep: Any, one: Any, e: Any
) -> None:
    """Write over e the gradient that `slice_loops.mixed_gradient` computes of one row.

    coefficients: (7, LANES) in the compute dtype: tail_sum, inv, b, zc, target_weight, uniform and
    uniform_weight.
    """
    zero, down = one - one, to_compute(DOWN, one)
    tail_sum, inv, b, zc = coefficients[0], coefficients[1], coefficients[2], coefficients[3]
    target_weight, uniform = coefficients[4], coefficients[5]
    uniform_weight = coefficients[6]
    for c in range(len(e)):
        wc = w[c]
        for i in range(LANES):
            top = z[c, i] == m[i]
            v = e[c, i] * down
            p = inv[i] if top else v * inv[i]
            q = tail_sum[i] * inv[i] if top else (one + (tail_sum[i] - v)) * inv[i]  # 1 - p
            possible = zero if z[c, i] == -INF else wc
            own = keep * a[c, i] + uniform[i] * possible
            others = keep * (target_weight[i] - a[c, i])
            others = others + uniform[i] * (uniform_weight[i] - possible)
            g = (p * others - own * q) * b[i]
            e[c, i] = g + (zero if p == zero else zc[i] * p)


@inline(fastmath=CONTRACT)
def target_sums(z: Any, a: Any, m: Any, one: Any, weight: Any, gap: Any) -> None:
    """Write Σ a and Σ a (m - z) without the terms of weight 0 or at m, which may be NaN."""
    zero = one - one
    for i in range(LANES):
        weight[i], gap[i] = 0.0, 0.0
    for c in range(len(z)):
        row, share = z[c], a[c]
        for i in range(LANES):
            weight[i] += f8(share[i])
        for i in range(LANES):
            absent = (share[i] == zero) | (row[i] == m[i])
            gap[i] += f8(zero if absent else share[i] * (m[i] - row[i]))


@inline(fastmath=CONTRACT)
def uniform_sums(z: Any, w: Any, m: Any, one: Any, possible: Any, weight: Any, gap: Any) -> None:
    """Write the number of classes that are not masked, Σ w and Σ w (m - z) over them."""
    zero = one - one
    for i in range(LANES):
        possible[i], weight[i], gap[i] = 0.0, 0.0, 0.0
    for c in range(len(z)):
        row, wc = z[c], w[c]
        for i in range(LANES):
            possible[i] += 0.0 if row[i] == -INF else 1.0
        for i in range(LANES):
            weight[i] += 0.0 if row[i] == -INF else f8(wc)
        for i in range(LANES):
            absent = (row[i] == -INF) | (row[i] == m[i]) | (wc == zero)
            gap[i] += f8(zero if absent else wc * (m[i] - row[i]))


@inline(fastmath={"contract", "reassoc", "nsz"})
def sum_lanes(v: Any) -> float:
    """Return Σ v, v: (n,) float64."""
    s = 0.0
    for i in range(len(v)):
        s += v[i]
    return s
