"""Sums that lose nothing and the mean's denominator, on the host and on a device without float64.

Expected values are those of `math.fsum`, which is exact, and of the definition of a mean.
"""

from math import fsum, log2

import numpy as np
import pytest

from xloss._arrays.context import context
from xloss.core.reduce import exact_sum, halved_sum, mean

PLACES = pytest.mark.parametrize("lib", ["numpy", "no_x64"], indirect=True)


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
    got = float(summed(context(lib.array([1.0]), lib.xp), lib.array(x)))
    want, levels = fsum(x.tolist()), log2(2 * len(x))
    assert abs(got - want) <= 2.0**-24 * (abs(want) + levels * 2.0**-24 * fsum(abs(x).tolist()))


@PLACES
def test_a_finite_sum_may_overflow_on_the_way(lib):
    x = lib.array([1.0], "float64" if lib.has("float64") else "float32")
    top = float(np.finfo(lib.dtype_of(x)).max)
    for last, want in ((-top / 2, top / 2), (top, np.inf)):
        for terms in ([top, top, -top, last], [top, -top, top, last]):  # one by one, and by halves
            with np.errstate(all="ignore"):
                got = exact_sum(context(x, lib.xp), lib.array(terms, lib.dtype_of(x)))
            assert float(got) == want


@PLACES
def test_the_denominator(lib):
    """Under a normalizer a row of class weight 0 has a loss, by smoothing; of none it is 0."""
    cx, kind = context(lib.array([1.0]), lib.xp), "float64" if lib.has("float64") else "float32"
    cases = [(4.0, None, 1.5), (0.0, None, 0.0), (1.0, 12.0, 0.5), (0.0, 12.0, 0.5)]
    for weight, normalizer, value in [*cases, (0.0, 0.0, 0.0), (4.0, 0.0, np.inf)]:
        below = None if normalizer is None else lib.array(normalizer, kind)
        with np.errstate(divide="ignore"):
            got = mean(cx, lib.array(6.0, kind), lib.array(weight, kind), below)
        assert float(lib.read(got)) == value
