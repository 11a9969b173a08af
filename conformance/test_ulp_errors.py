"""Errors in ulp, as the oracle counts them: what a float is off, and where rounding overflows."""

from __future__ import annotations

import numpy as np
import pytest

from xloss_conformance.budget import errors, spacing
from xloss_conformance.model import DTYPES, Array
from xloss_conformance.oracle import mp, ulp_error
from xloss_conformance.rounding import numpy_dtype

EXTREMES = (0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan)


def numbers(dtype: str, count: int = 300) -> Array:
    """Return floats of all sizes: subnormal, ordinary, next to the largest; and the special."""
    kind = numpy_dtype(dtype)
    rng = np.random.default_rng(len(dtype))
    bits = rng.integers(0, 2 ** (8 * kind.itemsize - 1), count, np.uint64)
    random = bits.astype(f"u{kind.itemsize}").view(kind)
    with np.errstate(invalid="ignore"):
        return np.concatenate([random.astype(np.float64), EXTREMES])


@pytest.mark.parametrize(
    ("got", "want", "dtype", "error"),
    [
        (1 + 2**-23, 1, "float32", 1),
        (1 - 2**-24, 1, "float32", 0.5),
        (-2.5, -2, "bfloat16", 32),
        (2**-24, 0, "float16", 1),
        (2**-133, 0, "bfloat16", 1),
        (2**-149, 0, "float32", 1),
        (2**-15 + 2**-24, 2**-15, "float16", 1),
        (65504.0, 65536, "float16", 0.5),
        (np.inf, 65520, "float16", 0),
        (np.inf, 65519, "float16", np.inf),
        (-np.inf, 1e9, "float16", np.inf),
        (np.inf, np.inf, "float32", 0),
        (np.inf, -np.inf, "float32", np.inf),
        (np.nan, np.nan, "float32", 0),
        (np.nan, 1, "float32", np.inf),
        (1.0, np.nan, "float32", np.inf),
        (1.0, np.inf, "float32", np.inf),
    ],
)
def test_the_oracle_counts_by_hand(got: float, want: float, dtype: str, error: float) -> None:
    assert ulp_error(got, mp.mpf(want), dtype) == error


@pytest.mark.parametrize("dtype", DTYPES)
def test_errors_are_the_oracles(dtype: str) -> None:
    """hi + lo is what is wanted, and got another float of the dtype, near it or anywhere."""
    got = numbers(dtype)
    rng = np.random.default_rng(7)
    with np.errstate(all="ignore"):
        near = got * (1 + 2.0**-9)
        powers = 2.0 ** np.round(np.log2(np.abs(got)))
    for wanted in (got, np.roll(got, 1), rng.permutation(got), near, powers):
        lo = np.where(np.isfinite(wanted), spacing("float64", wanted) * 0.125, 0.0)
        lo *= rng.choice([-1, 0, 1], lo.shape)
        exact = [mp.mpf(a) + mp.mpf(b) for a, b in zip(wanted.tolist(), lo.tolist(), strict=True)]
        for scale in (0.0, 2.0**-20, 3.5, 1e4):
            off = errors(got, wanted, lo, dtype, np.asarray(scale))
            for g, w, o in zip(got.tolist(), exact, off.tolist(), strict=True):
                size = max(abs(w), mp.mpf(scale)) if mp.isfinite(w) else w
                want = float(ulp_error(g, w, dtype, scale=size))
                assert o == pytest.approx(want, rel=1e-12), (g, w, scale)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_an_overflow_is_right_where_rounding_overflows(dtype: str) -> None:
    kind = numpy_dtype(dtype)
    bits = np.array(np.inf).astype(kind).view(f"u{kind.itemsize}") - 1
    largest = float(bits.view(kind))
    half = float(spacing(dtype, np.array(largest))) / 2
    got = np.array([largest, np.inf, np.inf, np.inf, -np.inf])
    hi = np.array([largest, largest, largest + half / 2, largest + half, largest + half])
    off = errors(got, hi, np.zeros(5), dtype, np.zeros(()))
    assert off.tolist() == [0, np.inf, np.inf, 0, np.inf]
