"""Elementary functions that a loop over an array vectorises: exp, log1p, tanh.

Polynomials are interpolated at the Chebyshev nodes of their range, which is within a percent or
two of minimax. tests/engines/cpu/test_functions.py holds their errors against mpmath.

Each function is inlined into its loop, and computes both sides of a choice to select one: a call or
a jump would keep LLVM from vectorising the loop.
"""

from __future__ import annotations

from typing import Any

from numba import types

from .bits import bits4, bits8, by_type, f4, f8, float4, float8, i4, i8

# Never reassociated: LLVM would find that the rounding errors computed here are 0 and drop them.
EXACT = {"fastmath": {"contract"}, "forceinline": True}

# Exponentials are scaled by 2^64: below exp(-87) a float32 would be subnormal and lose bits.
SCALE = 64
DOWN = 2.0**-SCALE

# ln 2 as the sum of two parts. The first has so few bits that its multiples by k are exact.
_HI4, _LO4 = f4(0.693359375), f4(-0.00021219444005469057)
_HI8, _LO8 = f8(0.6931471803691238), f8(1.9082149292705877e-10)
_LOG2E = 1.4426950408889634
# Adding it to a number rounds that to an integer, which then stands in the sum's low bits.
_ROUND4, _ROUND8 = f4(1.5 * 2**23), f8(1.5 * 2**52)
_LOW4, _LOW8 = f4(-131.0), f8(-752.0)  # below, the result is 0

_E4 = tuple(map(f4, (0.0013926213, 0.008363203, 0.041666556, 0.16666576, 0.5)))
_E8 = (
    2.5100424157005067e-08,
    2.7620138719733994e-07,
    2.7557268378684192e-06,
    2.480152119021773e-05,
    0.00019841269863105968,
    0.0013888888917281794,
    0.008333333333330051,
    0.04166666666662399,
    0.16666666666666669,
    0.5,
)


def _polynomial(coefficients: Any) -> Any:
    """Return code for the value of a polynomial at r; the highest power comes first."""
    first, others = coefficients[0], coefficients[1:]

    def value(r: Any) -> Any:
        p = first
        for c in others:
            p = p * r + c
        return p

    return value


@by_type(**EXACT)
def _exp_series(r: Any) -> Any:
    """Return (exp(r) - 1 - r)/r² for |r| <= ln 2 / 2."""
    return _polynomial(_E4 if r == types.float32 else _E8)


@by_type(**EXACT)
def exp_scaled(z: Any, m: Any) -> Any:
    """Return exp(z - m)·2^64 for z <= m; what rounding loses of the difference is made up for.

    The result is 0 below exp(-131) in float32 and exp(-752) in float64, exactly 2^64 at z = m, and
    NaN where either argument is NaN or both are infinite.
    """
    if z == types.float32:
        one, least, log2e, rounding, hi, lo = f4(1), _LOW4, f4(_LOG2E), _ROUND4, _HI4, _LO4
        bits, from_bits, bias, mantissa = bits4, float4, i4(127 + SCALE), i4(23)
    else:
        one, least, log2e, rounding, hi, lo = f8(1), _LOW8, f8(_LOG2E), _ROUND8, _HI8, _LO8
        bits, from_bits, bias, mantissa = bits8, float8, i8(1023 + SCALE), i8(52)
    zero = one - one

    def scaled(z: Any, m: Any) -> Any:
        d = z - m
        b = d - z
        error = (z - (d - b)) - (m + b)
        low = d < least
        d = least if low else d
        error = zero if low else error
        shifted = d * log2e + rounding
        k = shifted - rounding
        r = (d - k * hi) + (error - k * lo)
        p = one + (r + r * r * _exp_series(r))
        e = p * from_bits((bits(shifted) + bias) << mantissa)
        return zero if low else e

    return scaled


@by_type(**EXACT)
def reference(m: Any) -> Any:
    """Return K, the nearest integer to m/ln 2, and exp(K ln 2 - m)."""

    def double(m: Any) -> Any:
        shifted = m * _LOG2E + _ROUND8
        k = shifted - _ROUND8
        # The argument lies within ln 2 / 2 of 0, on either side, which exp_scaled takes too.
        return i8(k), exp_scaled(((k * _HI8) - m) + k * _LO8, 0.0) * DOWN

    return double


# Maxima up to here take exp_near. A larger one is subtracted from the logits first, because
# z - k ln 2 is not exact for large k. So is every float64, where the factor exp(K ln 2 - m) would
# add its own rounding to the result's.
NEAR = 128.0


@by_type(**EXACT)
def exp_near(z: Any, scale: Any) -> Any:
    """Return exp(z)·2^(64 - K) of a float32, where K is `reference`'s of the row's maximum.

    No difference of logits is formed, so none is rounded. scale: by `near_of`. The result is 0
    below its least argument, and NaN for NaN.
    """
    log2e = f4(_LOG2E)

    def single(z: Any, scale: Any) -> Any:
        low, bias = scale
        z = low if z < low else z
        shifted = z * log2e + _ROUND4
        k = shifted - _ROUND4
        r = (z - k * _HI4) - k * _LO4
        p = f4(1) + (r + r * r * _exp_series(r))
        return p * float4((bits4(shifted) + bias) << i4(23))

    # `scale_of` says so of no float64: this is compiled but never called.
    return single if z == types.float32 else lambda z, scale: z


@by_type()
def near_of(k: Any, like: Any) -> Any:
    """Return the scale of exp_near for K = k: its least argument and its bias, 127 + 64 - K."""
    one = f4 if like == types.float32 else f8

    def single(k: Any, like: Any) -> Any:
        bias = 127 + SCALE - k
        return one(-bias * 0.6931471805599453), i4(bias)

    return single


@by_type(forceinline=True)
def scale_of(m: Any, one: Any) -> Any:
    """Return whether exp_near takes a row of maximum m; exp(K ln 2 - m), else 1; the scale."""
    if m != types.float32:
        return lambda m, one: (False, 1.0, near_of(i8(0), one))

    def found(m: Any, one: Any) -> Any:
        near, k, unit = abs(m) <= NEAR, i8(0), 1.0
        if near:
            k, unit = reference(f8(m))
        return near, unit, near_of(k, one)

    return found


# 2·atanh(s)/s - 2 in powers of s².
_L7, _L6, _L5, _L4, _L3, _L2, _L1 = (
    0.14617807153417325,
    0.15331611722055008,
    0.1818289243253687,
    0.22222211089379496,
    0.28571428626253836,
    0.3999999999989889,
    0.666666666666667,
)


@by_type(**EXACT)
def log1p(r: Any) -> Any:
    """Return log(1 + r) for a float64 r >= 0, finite or NaN."""

    def double(r: Any) -> Any:
        u = 1.0 + r
        # What rounding lost of r, or of 1.
        lost = (1.0 - (u - r)) if r > 1.0 else (r - (u - 1.0))
        # u = 2^k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)).
        b = bits8(u) + i8(0x3FF0000000000000 - 0x3FE6A09E667F3BCD)
        k = (b >> i8(52)) - i8(1023)
        f = float8((b & i8(0x000FFFFFFFFFFFFF)) + i8(0x3FE6A09E667F3BCD)) - 1.0
        # k as a double, by the bits of 1.5·2^52 + k: without AVX-512 no vector converts int64.
        kf = float8(k + i8(0x4338000000000000)) - _ROUND8
        s = f / (2.0 + f)
        w = s * s
        tail = ((((((_L7 * w + _L6) * w + _L5) * w + _L4) * w + _L3) * w + _L2) * w + _L1) * w
        half = 0.5 * f * f
        small = s * (half + tail) + (kf * _LO8 + lost / u)
        return kf * _HI8 - ((half - small) - f)

    return double


_NEAR = 0.5625
# (tanh(u)/u - 1)/u² in powers of u² for |u| <= 0.5625.
_T4 = tuple(
    map(f4, (0.0024876148, -0.008499248, 0.021811903, -0.053964064, 0.13333322, -0.33333334))
)
_T8 = (
    1.109447179610089e-06,
    -5.1947033433787385e-06,
    1.5247072803260477e-05,
    -3.903515959721234e-05,
    9.685386818269936e-05,
    -0.00023911808640958085,
    0.0005900260395991267,
    -0.0014558342624481995,
    0.003592128029030633,
    -0.008863235529605828,
    0.021869488536148216,
    -0.05396825396825388,
    0.13333333333333333,
    -0.3333333333333333,
)


@by_type(**EXACT)
def _tanh_series(r: Any) -> Any:
    """Return (tanh(u)/u - 1)/u² of r = u², for |u| <= 0.5625."""
    return _polynomial(_T4 if r == types.float32 else _T8)


@by_type(**EXACT)
def tanh(u: Any) -> Any:
    """Return tanh(u)."""
    f = f4 if u == types.float32 else f8
    zero, one, two, near_to, down = f(0), f(1), f(2), f(_NEAR), f(DOWN)

    def by_parts(u: Any) -> Any:
        a = abs(u)
        w = u * u
        near = u + u * (w * _tanh_series(w))
        t = exp_scaled(-two * a, zero) * down
        far = one - two * t / (one + t)
        far = -far if u < zero else far
        return near if a < near_to else far

    return by_parts


@by_type(**EXACT)
def sech2(u: Any) -> Any:
    """Return 1 - tanh(u)², the derivative of tanh, as 4t/(1+t)² with t = exp(-2|u|).

    The difference would be 0 from |u| = 10 on, where the derivative is 8e-9.
    """
    f = f4 if u == types.float32 else f8
    one, two, four, down = f(1), f(2), f(4), f(DOWN)

    def slope(u: Any) -> Any:
        t = exp_scaled(-two * abs(u), one - one) * down
        return four * t / ((one + t) * (one + t))

    return slope
