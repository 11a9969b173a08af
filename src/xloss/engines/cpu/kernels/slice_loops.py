"""Loops over a chunk of a row that stays in the first-level cache: one reduction or one map each.

LLVM vectorises a reduction only where it may reassociate the additions, only one to a loop, and a
maximum only over integers. So each loop does one thing, sums are compiled with FAST, and maxima are
taken of floats' bits; the elementary functions that are called inside keep their own, stricter
rules. In every function z, a, w, e and out are (n,) in the compute dtype, but where something else
is said: logits, target weights, class weights, scaled exponentials, and what is written.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from ..kernel_cache import inline
from .bits import bits4, bits8, by_type, f8, float4, float8, i4, i8, narrow, to_compute, widen
from .functions import DOWN, exp_near, exp_scaled, sech2, tanh

FAST = {"contract", "reassoc", "nsz", "arcp"}
CONTRACT = {"contract"}
INF = np.inf
UNROLLED = 128  # numbers: four times what one turn of a vectorised loop over float64 takes
# Numbers that are added in float32 before the sum goes to float64: each vector lane then adds so
# few that its rounding errors stay below the result's.
SUM_CHUNK = 1024


@by_type(fastmath=FAST, forceinline=True)
def largest(z: Any) -> Any:
    """Return the maximum; NaN where a NaN of positive sign is among the numbers.

    It compares integers of the same order as the floats, among which positive NaNs are the largest.
    """
    if z.dtype == types.float32:
        integer, bits, from_bits, sign = i4, bits4, float4, i4(31)
    else:
        integer, bits, from_bits, sign = i8, bits8, float8, i8(63)
    least, others = np.iinfo(integer).min, integer(np.iinfo(integer).max)

    def loop(z: Any) -> Any:
        best = integer(least)
        for j in range(len(z)):
            b = bits(z[j])
            # Numba computes with int64, and would keep it: half as many numbers to a vector.
            k = integer(b ^ ((b >> sign) & others))
            best = k if k > best else best
        return from_bits(integer(best ^ ((best >> sign) & others)))

    return loop


@inline(fastmath=FAST)
def sum_all(z: Any, zero: Any) -> Any:
    """Return Σ z."""
    s = zero
    for j in range(len(z)):
        s += z[j]
    return s


@inline(fastmath=FAST)
def count_equal(z: Any, m: Any) -> Any:
    """Return the number of entries that equal m."""
    n = i4(0)
    for j in range(len(z)):
        n += i4(z[j] == m)
    return n


@inline(fastmath=CONTRACT)
def exponentials(z: Any, near: bool, m: Any, scale: Any, out: Any) -> None:
    """Write exp(z)·2^(64 - K) where the maximum is near, else exp(z - m)·2^64."""
    if near:
        for j in range(len(z)):
            out[j] = exp_near(z[j], scale)
    else:
        for j in range(len(z)):
            out[j] = exp_scaled(z[j], m)


@inline(fastmath=FAST)
def sum_wide(e: Any) -> float:
    """Return Σ e of a multiple of four numbers: four by four in the compute dtype, then in float64.

    A conversion to float64 takes time, and halves how many numbers fit a vector.
    """
    n = len(e) // 4
    a, b, c, d = e[:n], e[n : 2 * n], e[2 * n : 3 * n], e[3 * n : 4 * n]
    s = 0.0
    for j in range(len(a)):
        s += f8((a[j] + b[j]) + (c[j] + d[j]))
    return s


@inline()
def sum_padded(e: Any, n: int, zero: Any) -> float:
    """Return the sum of the first n of e: (whole chunk,), and overwrite with 0 what follows them.

    The loops take whole multiples of UNROLLED: what a vectorised loop has left over it adds one by
    one, each addition rounded.
    """
    whole = (n + UNROLLED - 1) // UNROLLED * UNROLLED
    for j in range(n, whole):
        e[j] = zero
    s = 0.0
    for a in range(0, whole, SUM_CHUNK):
        s += sum_wide(e[a : min(a + SUM_CHUNK, whole)])
    return s


@inline(fastmath=CONTRACT)
def drop_maximum(z: Any, m: Any, zero: Any, e: Any) -> None:
    """Write 0 over e where z is the maximum."""
    for j in range(len(e)):
        e[j] = zero if z[j] == m else e[j]


@inline(fastmath=FAST)
def sum_gaps(a: Any, z: Any, m: Any, zero: Any) -> Any:
    """Return Σ a (m - z) without the terms of weight 0 or at m, which may be 0·inf or inf - inf."""
    s = zero
    for j in range(len(z)):
        s += zero if (z[j] == m) | (a[j] == zero) else a[j] * (m - z[j])
    return s


@inline(fastmath=FAST)
def sum_possible_gaps(w: Any, z: Any, m: Any, zero: Any) -> Any:
    """Return Σ w (m - z) over the classes that are not masked, as `sum_gaps` does."""
    s = zero
    for j in range(len(z)):
        absent = (z[j] == m) | (w[j] == zero) | (z[j] == -INF)
        s += zero if absent else w[j] * (m - z[j])
    return s


@inline(fastmath=FAST)
def sum_possible(w: Any, z: Any, zero: Any) -> Any:
    """Return Σ w over the classes that are not masked."""
    s = zero
    for j in range(len(z)):
        s += zero if z[j] == -INF else w[j]
    return s


@inline(fastmath=FAST)
def multiply(a: Any, b: Any, out: Any) -> None:
    """Write a·b, each (n,); out may be longer."""
    for j in range(len(a)):
        out[j] = a[j] * b[j]


@inline(fastmath=CONTRACT)
def near_softmax(z: Any, scale: Any, factor: Any, out: Any) -> None:
    """Write exp(z)·2^(64 - K)·factor."""
    for j in range(len(z)):
        out[j] = exp_near(z[j], scale) * factor


@inline(fastmath=CONTRACT)
def far_softmax(z: Any, m: Any, first: Any, second: Any, one: Any, out: Any) -> None:
    """Write exp(z - m)·2^64·first·second, and 0 where the exponential is; m may be infinite.

    Two factors, because their product may be subnormal. A `first` that is NaN makes all NaN.
    """
    zero, at_top = one - one, to_compute(1.0 / DOWN, one)
    for j in range(len(z)):
        e = at_top if z[j] == m else exp_scaled(z[j], m)
        out[j] = zero if (e == zero) & (first == first) else (e * first) * second


@inline(fastmath=CONTRACT)
def mixed_gradient(
    z: Any, e: Any, a: Any, w: Any, m: Any, units: Any, shares: Any, one: Any, out: Any
) -> None:
    """Write b [p (A - α) - α (1 - p)] + zc p, α_j = keep a_j + uniform w_j, w_j 0 where masked.

    A - α_j is keep (target_weight - a_j) + uniform (uniform_weight - w_j), and exp(z - m) is
    e·unit. In float64 come units: unit, unit·inv, tail_sum, inv; and shares: keep, which is
    1 - label_smoothing, target_weight, uniform, uniform_weight, b, zc.
    """
    unit, unit_inv = to_compute(units[0], one), to_compute(units[1], one)
    tail_sum, inv = to_compute(units[2], one), to_compute(units[3], one)
    keep, target_weight = to_compute(shares[0], one), to_compute(shares[1], one)
    uniform, uniform_weight = to_compute(shares[2], one), to_compute(shares[3], one)
    b, zc = to_compute(shares[4], one), to_compute(shares[5], one)
    zero, tail = one - one, tail_sum * inv
    for j in range(len(z)):
        top = z[j] == m
        p = inv if top else e[j] * unit_inv
        q = tail if top else (one + (tail_sum - e[j] * unit)) * inv  # 1 - p
        possible = zero if z[j] == -INF else w[j]
        own = keep * a[j] + uniform * possible
        others = keep * (target_weight - a[j]) + uniform * (uniform_weight - possible)
        g = (p * others - own * q) * b
        out[j] = g + (zero if p == zero else zc * p)  # zc may be infinite or NaN


@inline(fastmath=CONTRACT)
def capped(x: Any, cap: Any, out: Any) -> None:
    """Write cap·tanh(x/cap); a masked logit stays masked."""
    for j in range(len(x)):
        out[j] = x[j] if x[j] == -INF else cap * tanh(x[j] / cap)


@inline(fastmath=CONTRACT)
def times_cap_slope(x: Any, cap: Any, out: Any) -> None:
    """Multiply out by the derivative of cap·tanh(x/cap)."""
    for j in range(len(x)):
        out[j] *= sech2(x[j] / cap)


_COMPUTE_DTYPES = (types.float32, types.float64)


@by_type()
def decoded(values: Any, buffer: Any) -> Any:
    """Return stored values: (n,) in the compute dtype: themselves, or a copy in the buffer."""
    if values.dtype in _COMPUTE_DTYPES:
        return lambda values, buffer: values

    def convert(values: Any, buffer: Any) -> Any:
        out = buffer[: len(values)]
        for j in range(len(values)):
            out[j] = widen(values[j])
        return out

    return convert


@by_type()
def written(values: Any, buffer: Any) -> Any:
    """Return where a chunk of the gradient is computed: in its place, or in the buffer.

    `encode` then brings it from the buffer to its place.
    """
    if values.dtype in _COMPUTE_DTYPES:
        return lambda values, buffer: values
    return lambda values, buffer: buffer[: len(values)]


@by_type()
def encode(g: Any, values: Any, like: Any) -> Any:
    """Round g: (n,) from the buffer to the stored values, where it was not computed in place."""
    if values.dtype in _COMPUTE_DTYPES:
        return lambda g, values, like: None

    def convert(g: Any, values: Any, like: Any) -> None:
        for j in range(len(values)):
            values[j] = narrow(g[j], like)

    return convert
