"""Sums over a chunk strip by strip: a strip without the row's maximum is one loop, exp and sum.

While a strip is summed, the same strip of the next chunk is fetched from memory. The maximum of
that chunk is then found as fast as the first-level cache gives it, and memory is read while
exponentials are computed. In every function z is a chunk's logits, (n,) in the compute dtype, and
`remainder` (LANES,) is what `take_remainder` has written of it.
"""

from __future__ import annotations

from typing import Any

from ..kernel_cache import inline
from .bits import f8, i8
from .functions import exp_near
from .memory import fetch, in_line
from .slice_loops import CONTRACT, FAST, INF, count_equal, largest

STRIP = 512  # numbers: few additions to a vector lane, after which the sum goes to float64
LANES = 64  # a multiple of what a vectorised loop takes; what is left over it would add one by one


@inline()
def whole_part(n: int) -> int:
    """Return the largest multiple of LANES up to n."""
    return n // LANES * LANES


@inline()
def fill_masks(out: Any, one: Any) -> None:
    """Write the table that `take_remainder` selects by: LANES times 1, then LANES times 0."""
    for j in range(LANES):
        out[j], out[LANES + j] = one, one - one


@inline(fastmath=CONTRACT)
def take_remainder(z: Any, mask: Any, out: Any) -> None:
    """Write to out what z has beyond its whole LANES, between -inf.

    mask: (2·LANES,) by `fill_masks`. The loop reads the last LANES numbers at once and selects by
    the mask: a loop over what is left alone would read them one by one.
    """
    n = len(z)
    left = n - whole_part(n)
    if left == 0:
        return
    if n >= LANES:
        window, absent = z[n - LANES : n], mask[left : left + LANES]
        for j in range(LANES):
            out[j] = -INF if absent[j] != 0.0 else window[j]
    else:
        for j in range(LANES):
            out[j] = z[j] if j < n else -INF


@inline()
def strip_maxima(z: Any, remainder: Any, out: Any) -> Any:
    """Write every strip's maximum to out, the remainder's last; return the maximum of all.

    It is NaN where a NaN of positive sign is among the logits.
    """
    n = len(z)
    whole = whole_part(n)
    best, s = remainder[0], 0
    for a in range(0, whole, STRIP):
        m = largest(z[a : min(a + STRIP, whole)])
        out[s] = m
        best = m if a == 0 or m > best or m != m else best
        s += 1
    if whole < n:
        m = largest(remainder)
        out[s] = m
        best = m if whole == 0 or m > best or m != m else best
    return best


@inline(fastmath=FAST)
def strip_sum(z: Any, scale: Any, zero: Any) -> Any:
    """Return Σ exp(z)·2^(64 - K)."""
    s = zero
    for j in range(len(z)):
        s += exp_near(z[j], scale)
    return s


@inline(fastmath=FAST)
def strip_sum_below(z: Any, top: Any, scale: Any, zero: Any) -> Any:
    """Return Σ exp(z)·2^(64 - K) over the entries that are not the maximum."""
    s = zero
    for j in range(len(z)):
        s += zero if z[j] == top else exp_near(z[j], scale)
    return s


@inline()
def near_sum(
    z: Any, remainder: Any, maxima: Any, top: Any, scale: Any, zero: Any, logits: Any, ahead: int
) -> tuple[float, int]:
    """Return Σ exp(z)·2^(64 - K) below the row's maximum, and the number of entries at it.

    maxima: what `strip_maxima` has written. logits[ahead] is where the next chunk begins.
    """
    n = len(z)
    whole = whole_part(n)
    total, ties = 0.0, i8(0)
    for j in range(whole, n, in_line(logits)):
        fetch(logits, ahead + j)
    for s, a in enumerate(range(0, whole, STRIP)):
        b = min(a + STRIP, whole)
        for j in range(a, b, in_line(logits)):
            fetch(logits, ahead + j)
        if maxima[s] == top:
            total += f8(strip_sum_below(z[a:b], top, scale, zero))
            ties += i8(count_equal(z[a:b], top))
        else:
            total += f8(strip_sum(z[a:b], scale, zero))
    if whole < n:
        total += f8(strip_sum_below(remainder, top, scale, zero))
        ties += i8(count_equal(remainder, top))
    return total, ties
