"""Loops over a piece of a row that stays in the first cache: one reduction or one map each.

LLVM vectorises a reduction only where it may reassociate, one to a loop, and a maximum only over
integers; the elementary functions inside keep their own, stricter rules.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from ..kernel_cache import inline
from .bits import acc, bits4, bits8, f8, float4, float8, i4, i8, narrow, wide
from .functions import DOWN, exp_near, exp_scaled, sech2, tanh

FAST = {"contract", "reassoc", "nsz", "arcp"}
CONTRACT = {"contract"}
INF = np.inf
BLOCK = 128  # four times what a loop over float64 takes at once
PART = 1024  # few enough additions to one lane


def _key(v: Any) -> Any:
    """Map a float's bits to an integer of the same order; positive NaNs are the largest."""
    raise NotImplementedError("compiled code only")


def _unkey(k: Any) -> Any:
    raise NotImplementedError("compiled code only")


def _least(v: Any) -> Any:
    raise NotImplementedError("compiled code only")


@overload(_key, strict=False)
def _key_of(v: Any) -> Any:
    if v == types.float32:

        def single(v: Any) -> Any:
            b = bits4(v)
            return i4(b ^ ((b >> i4(31)) & i4(0x7FFFFFFF)))  # Numba widens to int64

        return single

    def double(v: Any) -> Any:
        b = bits8(v)
        return b ^ ((b >> i8(63)) & i8(0x7FFFFFFFFFFFFFFF))

    return double


@overload(_unkey, strict=False)
def _unkey_of(k: Any) -> Any:
    if k == types.int32:
        return lambda k: float4(i4(k ^ ((k >> i4(31)) & i4(0x7FFFFFFF))))
    return lambda k: float8(k ^ ((k >> i8(63)) & i8(0x7FFFFFFFFFFFFFFF)))


@overload(_least, strict=False)
def _least_of(v: Any) -> Any:
    if v == types.float32:
        return lambda v: i4(-(2**31))
    return lambda v: i8(-(2**63))


@inline(fastmath=FAST)
def largest(z: Any) -> Any:
    """Return the maximum; NaN where one of positive sign is among them."""
    best = _least(z[0])
    for j in range(len(z)):
        k = _key(z[j])
        best = k if k > best else best
    return _unkey(best)


@inline(fastmath=FAST)
def sum_all(z: Any, zero: Any) -> Any:
    """Return Σ z."""
    s = zero
    for j in range(len(z)):
        s += z[j]
    return s


@inline(fastmath=FAST)
def count_equal(z: Any, m: Any) -> Any:
    """Return the number of entries at m."""
    n = i4(0)
    for j in range(len(z)):
        n += i4(z[j] == m)
    return n


@inline(fastmath=CONTRACT)
def exponentials(z: Any, near: bool, m: Any, low: Any, bias: Any, out: Any) -> None:
    """Write exp(z)·2^(64 - K) where the maximum is near, else exp(z - m)·2^64."""
    if near:
        for j in range(len(z)):
            out[j] = exp_near(z[j], low, bias)
    else:
        for j in range(len(z)):
            out[j] = exp_scaled(z[j], m)


@inline(fastmath=FAST)
def sum_wide(e: Any) -> float:
    """Return Σ e, in float64 but for four at a time: half the conversions, and no vector less."""
    n = len(e) // 4
    a, b, c, d = e[:n], e[n : 2 * n], e[2 * n : 3 * n], e[3 * n : 4 * n]
    s = 0.0
    for j in range(len(a)):
        s += f8((a[j] + b[j]) + (c[j] + d[j]))
    return s


@inline()
def sum_padded(e: Any, n: int, zero: Any) -> float:
    """Return Σ of the first n; what stands behind them is overwritten.

    Whole blocks alone: what is left over of a vectorised loop is added one by one, each rounded.
    """
    whole = (n + BLOCK - 1) // BLOCK * BLOCK
    for j in range(n, whole):
        e[j] = zero
    s = 0.0
    for a in range(0, whole, PART):
        s += sum_wide(e[a : min(a + PART, whole)])
    return s


@inline(fastmath=CONTRACT)
def drop_top(z: Any, m: Any, zero: Any, e: Any) -> None:
    """Put 0 where z is the maximum."""
    for j in range(len(e)):
        e[j] = zero if z[j] == m else e[j]


@inline(fastmath=FAST)
def sum_gaps(a: Any, z: Any, m: Any, zero: Any) -> Any:
    """Return Σ a (m - z); a term of weight 0, or at m, is absent."""
    s = zero
    for j in range(len(z)):
        s += zero if (z[j] == m) | (a[j] == zero) else a[j] * (m - z[j])
    return s


@inline(fastmath=FAST)
def sum_possible_gaps(w: Any, z: Any, m: Any, zero: Any) -> Any:
    """Return Σ w (m - z) over the possible classes."""
    s = zero
    for j in range(len(z)):
        gone = (z[j] == m) | (w[j] == zero) | (z[j] == -INF)
        s += zero if gone else w[j] * (m - z[j])
    return s


@inline(fastmath=FAST)
def sum_possible(w: Any, z: Any, zero: Any) -> Any:
    """Return Σ w over the possible classes."""
    s = zero
    for j in range(len(z)):
        s += zero if z[j] == -INF else w[j]
    return s


@inline(fastmath=FAST)
def multiply(a: Any, b: Any, out: Any) -> None:
    """Write a·b."""
    for j in range(len(out)):
        out[j] = a[j] * b[j]


@inline(fastmath=CONTRACT)
def near_softmax(z: Any, low: Any, bias: Any, factor: Any, out: Any) -> None:
    """Write exp(z)·2^(64 - K)·factor."""
    for j in range(len(z)):
        out[j] = exp_near(z[j], low, bias) * factor


@inline(fastmath=CONTRACT)
def far_softmax(z: Any, m: Any, first: Any, second: Any, one: Any, out: Any) -> None:
    """Write exp(z - m)·2^64·first·second, 0 where the first is; m may be infinite."""
    zero, at_top = one - one, acc(1.0 / DOWN, one)
    for j in range(len(z)):
        e = at_top if z[j] == m else exp_scaled(z[j], m)
        out[j] = zero if (e == zero) & (first == first) else (e * first) * second


@inline(fastmath=CONTRACT)
def mixed_gradient(
    z: Any,
    e: Any,
    a: Any,
    w: Any,
    m: Any,
    unit: Any,
    unit_inv: Any,
    rest: Any,
    inv: Any,
    b: Any,
    zc: Any,
    keep: Any,
    rem: Any,
    c: Any,
    shares: Any,
    one: Any,
    out: Any,
) -> None:
    """Write b [p (A - α) - α (1-p)] + zc p, α_j = keep a_j + c w_j over the possible classes.

    A - α_j is keep (rem - a_j) + c (shares - w_j); exp(z - m) is e·unit.
    """
    zero, tail = one - one, rest * inv
    for j in range(len(z)):
        top = z[j] == m
        p = inv if top else e[j] * unit_inv
        q = tail if top else (one + (rest - e[j] * unit)) * inv
        share = zero if z[j] == -INF else w[j]
        mine = keep * a[j] + c * share
        others = keep * (rem - a[j]) + c * (shares - share)
        g = (p * others - mine * q) * b
        out[j] = g + (zero if p == zero else zc * p)


@inline(fastmath=CONTRACT)
def capped(x: Any, cap: Any, out: Any) -> None:
    """Write cap·tanh(x/cap); a masked logit stays masked."""
    for j in range(len(x)):
        out[j] = x[j] if x[j] == -INF else cap * tanh(x[j] / cap)


@inline(fastmath=CONTRACT)
def slope_times(x: Any, cap: Any, out: Any) -> None:
    """Multiply by the slope of the cap."""
    for j in range(len(x)):
        out[j] *= sech2(x[j] / cap)


def decoded(stored: Any, buffer: Any) -> Any:
    """Return the stored numbers in the arithmetic's dtype, in the buffer if they are not."""
    raise NotImplementedError("compiled code only")


def written(stored: Any, buffer: Any) -> Any:
    """Return where a piece of the gradient is computed: in place, or in the buffer."""
    raise NotImplementedError("compiled code only")


def encode(made: Any, stored: Any, like: Any) -> None:
    """Round what was computed in a buffer into place."""
    raise NotImplementedError("compiled code only")


_KEPT = (types.float32, types.float64)


@overload(decoded, strict=False)
def _decoded(stored: Any, buffer: Any) -> Any:
    if stored.dtype in _KEPT:
        return lambda stored, buffer: stored

    def convert(stored: Any, buffer: Any) -> Any:
        out = buffer[: len(stored)]
        for j in range(len(stored)):
            out[j] = wide(stored[j])
        return out

    return convert


@overload(written, strict=False)
def _written(stored: Any, buffer: Any) -> Any:
    if stored.dtype in _KEPT:
        return lambda stored, buffer: stored
    return lambda stored, buffer: buffer[: len(stored)]


@overload(encode, strict=False)
def _encode(made: Any, stored: Any, like: Any) -> Any:
    if stored.dtype in _KEPT:
        return lambda made, stored, like: None

    def convert(made: Any, stored: Any, like: Any) -> None:
        for j in range(len(stored)):
            stored[j] = narrow(made[j], like)

    return convert
