"""Sums that lose nothing and the mean's denominator, on the host and on a device without float64.

Expected values are those of `math.fsum`, which is exact, and of the definition of a mean.
"""

from math import fsum, log2

import numpy as np
import pytest

from libraries import Library
from xloss._arrays.context import Context, context
from xloss.core.reduce import contributing, exact_sum, halved_sum, mean

PLACES = pytest.mark.parametrize("lib", ["numpy", "no_x64"], indirect=True)


def context_of(lib: Library, name: str = "float32") -> Context:
    return context(lib.array([1.0], name), lib.xp)


@PLACES
@pytest.mark.parametrize("summed", [halved_sum, exact_sum])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 7, 11, 1000, 1001])
def test_sums_keep_what_float32_drops(lib, count, summed):
    """Of integers to 2^30 beside small fractions: float32 alone would round each partial sum.

    What a two-sum drops is itself summed in float32, so that the error is that of a tree of
    additions of numbers 2^-24 as large, and one rounding.
    """
    rng = np.random.default_rng(count)
    x = rng.integers(-(2**30), 2**30, count) + 0.0
    x[::2] = rng.integers(1, 2**20, x[::2].shape) * 2.0**-20
    x = x.astype(np.float32)
    x = np.concatenate([x, -x[1::2]])  # what is large goes, to the last bit
    got = float(summed(context_of(lib), lib.array(x)))
    want, levels = fsum(x.tolist()), log2(2 * len(x))
    assert abs(got - want) <= 2.0**-24 * (abs(want) + levels * 2.0**-24 * fsum(abs(x).tolist()))


@PLACES
@pytest.mark.parametrize("shape", [(4,), (2, 2)])
def test_a_finite_sum_may_overflow_on_the_way(lib, shape):
    name = "float64" if lib.has("float64") else "float32"
    largest = float(np.finfo(name).max)
    for last, want in ((-largest / 2, largest / 2), (largest, np.inf)):
        x = np.array([largest, largest, -largest, last]).reshape(shape)
        with np.errstate(all="ignore"):
            assert float(exact_sum(context_of(lib, name), lib.array(x, name))) == want


# What contributes, and the mean of a total of 6: weight, normalizer -> both.
MEANS = [
    (4.0, None, True, 1.5),
    (1.0, None, True, 6.0),
    (0.0, None, False, 0.0),
    (4.0, 12.0, True, 0.5),
    (1.0, 12.0, True, 0.5),
    (0.0, 12.0, True, 0.5),  # a row of class weight 0 has a loss, by smoothing
    (0.0, 0.0, False, 0.0),
    (4.0, 0.0, True, np.inf),
]


@PLACES
@pytest.mark.parametrize(("weight", "normalizer", "contributes", "value"), MEANS)
def test_the_denominator(lib, weight, normalizer, contributes, value):
    cx = context_of(lib)
    sums = "float64" if lib.has("float64") else "float32"
    weight = lib.array(weight, sums)
    normalizer = None if normalizer is None else lib.array(normalizer, sums)
    assert (float(contributing(cx, weight, normalizer)) != 0) == contributes
    with np.errstate(divide="ignore"):
        got = mean(cx, lib.array(6.0, sums), weight, normalizer)
    assert lib.dtype_of(got) == sums
    assert float(lib.read(got)) == value
