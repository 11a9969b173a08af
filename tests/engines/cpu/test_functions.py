"""The compiled functions against mpmath, over their whole range; every 16-bit number there is."""

import numpy as np
import pytest

pytest.importorskip("numba", reason="no compiled engine here: pip install 'xloss[fast]'")
import mpmath as mp
from numba import njit

from xloss.engines.cpu.kernels import bits, functions
from xloss_conformance.oracle import ulp_error

DTYPES = ("float32", "float64")
# In ulp of a result in [0.7, 1.42]: 0.5 for the last rounding, 0.25 each for the argument's and the
# last sum's, 0.1 for the product's, 0.18 for the polynomial.
EXP = 1.28


@njit
def exp_scaled(z, m, out):
    for j in range(len(z)):
        out[j] = functions.exp_scaled(z[j], m)


@njit
def exp_near(z, m, out):
    k, unit = functions.reference(np.float64(m))
    scale = functions.near_of(k, m)
    for j in range(len(z)):
        out[j] = functions.exp_near(z[j], scale)
    return unit


def each(function):
    """Return a compiled function that applies one to each number of an array."""

    @njit
    def applied(x, out):
        for j in range(len(x)):
            out[j] = function(x[j])

    return applied


log1p, tanh, sech2 = each(functions.log1p), each(functions.tanh), each(functions.sech2)
widened = each(bits.widen)


@njit
def narrowed(x, out):
    for j in range(len(x)):
        out[j] = bits.narrow(x[j], out[0])


def worst(got, exact, inputs, dtype):
    """Return the largest error in ulp of the format; `exact` computes in mpmath."""
    with mp.workdps(50):
        pairs = zip(inputs, got, strict=True)
        return float(max(ulp_error(float(y), exact(mp.mpf(float(x))), dtype) for x, y in pairs))


def spread(low, high, dtype, near=()):
    """Return numbers all over a range, at random and on no grid, and around some points of it."""
    rng = np.random.default_rng(7)
    parts = [np.linspace(low, high, 1000), rng.uniform(low, high, 1000)]
    parts += [rng.uniform(p - 0.4, p + 0.4, 1000) for p in near]
    return np.clip(np.concatenate(parts), low, high).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m", [0.0, 3.3, -87.0, 4097.7, 1e30])
def test_exp_below_a_maximum(dtype, m):
    m = np.dtype(dtype).type(m)
    low = -130.0 if dtype == "float32" else -750.0
    z = np.minimum((m + spread(low, 0.0, "float64", (0.0,))).astype(dtype), m)
    out = np.empty_like(z)
    exp_scaled(z, m, out)
    most = worst(out, lambda v: mp.exp(v - mp.mpf(float(m))) * mp.mpf(2) ** 64, z, dtype)
    assert most < EXP
    exp_scaled(np.array([m], dtype), m, out[:1])
    assert out[0] == 2.0**64


@pytest.mark.parametrize("m", [0.0, 3.3, -0.35, 127.9, -127.9])
def test_exp_without_a_difference(m):
    m = np.float32(m)
    z = np.minimum((m + spread(-130.0, 0.0, "float64", (0.0,))).astype("float32"), m)
    out = np.empty_like(z)
    unit = exp_near(z, m, out)
    k = round(float(m) / float(np.log(2.0)))
    assert worst(out, lambda v: mp.exp(v) * mp.mpf(2) ** (64 - k), z, "float32") < EXP
    with mp.workdps(50):
        assert abs(unit / float(mp.exp(k * mp.log(2) - mp.mpf(float(m)))) - 1) < 4e-16


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_ends_of_exp(dtype):
    z = np.array([-np.inf, -1e30, np.nan, -np.nan, -800.0], dtype)
    out = np.empty_like(z)
    for function, m in ((exp_scaled, 1.5), (exp_scaled, np.inf), (exp_near, 1.5)):
        if function is exp_scaled or dtype == "float32":
            function(z, z.dtype.type(m), out)
            np.testing.assert_array_equal(out, [0, 0, np.nan, np.nan, 0])


def test_log1p():
    rng = np.random.default_rng(3)
    x = np.concatenate([10.0 ** rng.uniform(-300, 18, 2000), rng.uniform(0, 3, 2000)])
    out = np.empty_like(x)
    log1p(x, out)
    assert worst(out, mp.log1p, x, "float64") < 1.0
    log1p(np.array([0.0, np.nan]), out[:2])
    np.testing.assert_array_equal(out[:2], [0.0, np.nan])


@pytest.mark.parametrize("dtype", DTYPES)
def test_tanh_and_its_slope(dtype):
    x = spread(-20.0, 20.0, dtype, (0.0, 0.5625, -0.5625))
    out = np.empty_like(x)
    tanh(x, out)
    assert worst(out, mp.tanh, x, dtype) < 1.5
    sech2(x, out)
    assert worst(out, lambda v: mp.sech(v) ** 2, x, dtype) < 5.0
    ends = np.array([0.0, -np.inf, np.inf, np.nan], dtype)
    tanh(ends, out[:4])
    np.testing.assert_array_equal(out[:4], [0, -1, 1, np.nan])


def test_every_half_and_bfloat16_is_read():
    every = np.arange(2**16, dtype=np.uint16)
    out = np.empty(2**16, np.float32)
    widened(every.view(np.int16), out)
    np.testing.assert_array_equal(out, every.view(np.float16).astype(np.float32))
    assert (np.signbit(out) == np.signbit(every.view(np.float16))).all()
    widened(every, out)
    want = (every.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(out, want)


def test_rounding_to_16_bits():
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="NumPy has no bfloat16 of its own")
    patterns = np.random.default_rng(5).integers(0, 2**32, 300_000, dtype=np.uint32)
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float64)
    halves = halves[np.isfinite(halves)]
    ties = ((halves[1:] + halves[:-1]) / 2).astype(np.float32)  # halfway between neighbours
    x = np.concatenate([patterns.view("f4"), ties, (patterns & 0xFFFF8000).view("f4")])
    with np.errstate(all="ignore"):
        half, brain = x.astype(np.float16), x.astype(ml_dtypes.bfloat16)
    out = np.empty(x.shape, np.int16)
    narrowed(x, out)
    np.testing.assert_array_equal(out.view(np.float16), half)
    out = np.empty(x.shape, np.uint16)
    narrowed(x, out)
    got = out.view(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(got, brain.astype(np.float32))
