"""Sums over a piece strip by strip: a strip without the row's maximum is one loop, exp and sum.

While a strip is summed, the same strip of the next piece is fetched: the maximum is then found as
fast as the first cache gives it, and memory is read while the exponentials are computed.
"""

from __future__ import annotations

from typing import Any

from ..kernel_cache import inline
from .bits import f8, i8
from .functions import exp_near
from .memory import fetch, in_line
from .slice_loops import CONTRACT, FAST, INF, count_equal, largest

STRIP = 512  # numbers: some additions to a lane, each strip's sum then goes to float64
LANES = 64  # a multiple of what a vectorised loop takes: the rest would be added one by one


@inline()
def whole_part(n: int) -> int:
    """Return how many of n numbers loops over LANES take."""
    return n // LANES * LANES


@inline()
def fill_masks(out: Any, one: Any) -> None:
    """Write the table that `take_rest` selects by: LANES times 1, then LANES times 0."""
    for j in range(LANES):
        out[j], out[LANES + j] = one, one - one


@inline(fastmath=CONTRACT)
def take_rest(z: Any, mask: Any, out: Any) -> None:
    """Write what is left of a piece beyond whole LANES, among -inf; read no number by itself."""
    n = len(z)
    left = n - whole_part(n)
    if left == 0:
        return
    if n >= LANES:
        window, gone = z[n - LANES : n], mask[left : left + LANES]
        for j in range(LANES):
            out[j] = -INF if gone[j] != 0.0 else window[j]
    else:
        for j in range(LANES):
            out[j] = z[j] if j < n else -INF


@inline()
def largest_each(z: Any, rest: Any, out: Any) -> Any:
    """Write every strip's maximum; return that of all, NaN where one of positive sign is there.

    rest: what `take_rest` wrote, the last strip if there is any.
    """
    n = len(z)
    whole = whole_part(n)
    best, s = rest[0], 0
    for a in range(0, whole, STRIP):
        m = largest(z[a : min(a + STRIP, whole)])
        out[s] = m
        best = m if a == 0 or m > best or m != m else best
        s += 1
    if whole < n:
        m = largest(rest)
        out[s] = m
        best = m if whole == 0 or m > best or m != m else best
    return best


@inline(fastmath=FAST)
def strip_sum(z: Any, low: Any, bias: Any, zero: Any) -> Any:
    """Return Σ exp(z)·2^(64 - K)."""
    s = zero
    for j in range(len(z)):
        s += exp_near(z[j], low, bias)
    return s


@inline(fastmath=FAST)
def strip_sum_below(z: Any, top: Any, low: Any, bias: Any, zero: Any) -> Any:
    """Return the same, without the entries at the maximum."""
    s = zero
    for j in range(len(z)):
        s += zero if z[j] == top else exp_near(z[j], low, bias)
    return s


@inline()
def near_sum(
    z: Any, rest: Any, maxima: Any, top: Any, low: Any, bias: Any, zero: Any, xs: Any, ahead: int
) -> tuple[float, int]:
    """Return Σ exp(z)·2^(64 - K) below the maximum, and the number of entries at it.

    rest, maxima: as `largest_each` had and wrote them. xs[ahead]: where the next piece begins.
    """
    n = len(z)
    whole = whole_part(n)
    total, ties = 0.0, i8(0)
    for j in range(whole, n, in_line(xs)):
        fetch(xs, ahead + j)
    for s, a in enumerate(range(0, whole, STRIP)):
        b = min(a + STRIP, whole)
        for j in range(a, b, in_line(xs)):
            fetch(xs, ahead + j)
        if maxima[s] == top:
            total += f8(strip_sum_below(z[a:b], top, low, bias, zero))
            ties += i8(count_equal(z[a:b], top))
        else:
            total += f8(strip_sum(z[a:b], low, bias, zero))
    if whole < n:
        total += f8(strip_sum_below(rest, top, low, bias, zero))
        ties += i8(count_equal(rest, top))
    return total, ties
