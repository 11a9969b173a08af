"""Weights scaled by powers of two: the same weights but for one factor, and the largest near 1.

Powers of two scale exactly, so that the expected numbers are the weights themselves.
"""

import numpy as np
import pytest

from libraries import Library
from xloss._arrays.context import context
from xloss.core.options import Operands, Options
from xloss.core.weights import balance, mean_weights, moderate, rescaled

PLACES = pytest.mark.parametrize("lib", ["numpy", "no_x64"], indirect=True)
LABELS = np.array([0, 1, 3, 1, 2])
SAMPLE = np.ldexp([1.0, 1.5, 0.5, 0.0, 1.75], [0, 3, -20, 0, 10])
CLASS = np.ldexp([1.25, 0.5, 1.75, 1.5], [0, 12, -8, 4])


def operands(lib: Library, by: str, power: int, where: bool) -> Operands:
    """Weights of the rows, of the classes, or of both, times a power of two together."""
    half = power // 2 if by == "both" else power
    return Operands(
        lib.array(np.zeros((5, 4))),
        lib.like(LABELS),
        class_weight=None if by == "rows" else lib.array(np.ldexp(CLASS, half)),
        sample_weight=None if by == "classes" else lib.array(np.ldexp(SAMPLE, half)),
        where=lib.array([True, True, True, True, False], "bool") if where else None,
    )


def row_weights(lib: Library, o: Operands) -> np.ndarray:
    found = np.ones(5)
    if o.sample_weight is not None:
        found = found * lib.host(o.sample_weight).astype(float)
    if o.class_weight is not None:
        found = found * lib.host(o.class_weight).astype(float)[LABELS]
    return found


@PLACES
@pytest.mark.parametrize("where", [False, True], ids=["all rows", "not the last"])
@pytest.mark.parametrize("smoothing", [0.0, 0.25])
@pytest.mark.parametrize("power", [-80, 0, 90])
@pytest.mark.parametrize("by", ["rows", "classes", "both"])
def test_balanced_weights_are_the_weights_but_for_a_power_of_two(lib, by, power, smoothing, where):
    o = operands(lib, by, power, where)
    options = Options("cross_entropy", indexed=True, label_smoothing=smoothing)
    balanced, shift = balance(o, options, context(o.x, lib.xp), 4)
    present = slice(4) if where else slice(5)
    was, now = row_weights(lib, o)[present], row_weights(lib, balanced)[present]
    np.testing.assert_array_equal(np.ldexp(now, int(shift)), was)
    if by != "both" or not smoothing:  # where each of the two is scaled by its own largest
        assert 0.25 <= now.max() < 4.0


@pytest.mark.parametrize(
    ("lib", "kind", "top", "bottom", "kept"),
    [
        ("numpy", "float32", 120, -149, 100),
        ("no_x64", "float32", 120, -149, 100),
        ("numpy", "float64", 1000, -1074, 900),
        ("strict", "float64", 1000, -1074, 900),
    ],
    indirect=["lib"],
)
def test_a_weight_far_below_the_largest_does_not_become_zero(lib, kind, top, bottom, kept):
    sample = np.array([2.0**top, 2.0**bottom, 1.0, 0.0, 1.5])
    x = lib.array(np.zeros((5, 4)), kind)
    o = Operands(x, lib.like(LABELS), sample_weight=lib.array(sample, kind))
    balanced, shift = balance(o, Options("kl_div"), context(x, lib.xp), 4)
    assert int(shift) == top
    got = lib.host(balanced.sample_weight).tolist()
    assert got == [1.0, 2.0**-kept, 2.0**-kept, 0.0, 1.5 * 2.0**-kept]


@pytest.mark.parametrize("lib", ["numpy", "strict"], indirect=True)
@pytest.mark.parametrize("power", [-300, 300])
def test_a_float64_normalizer_may_be_far_from_the_weights(lib, power):
    x = lib.array(np.zeros((5, 4)), "float64")
    weights = lib.array(SAMPLE * 2.0**200, "float64")
    o = Operands(x, lib.like(LABELS), sample_weight=weights)
    for given in (2.0**power, lib.array(2.0**power, "float64")):
        scaled, denominator = mean_weights(
            o, Options("cross_entropy", indexed=True), context(x, lib.xp), 4, given
        )
        now = lib.host(scaled.sample_weight) / float(denominator)
        np.testing.assert_array_equal(now, SAMPLE * 2.0 ** (200 - power))


@PLACES
@pytest.mark.parametrize(
    ("shift", "as_array"), [(-3, False), (0, False), (7, False), (-140, True), (131, True)]
)
def test_rescaled_is_times_the_power_of_two(lib, shift, as_array):
    """By an array the shift may be larger than a float32's exponent."""
    total = 1.5 * 2.0 ** (-shift // 2)
    cx = context(lib.array([1.0]), lib.xp)
    given = lib.array(np.int32(shift), "int32") if as_array else shift
    got = rescaled(cx, cx.cast(lib.array(total), cx.sum_dtype), given)
    assert float(got) == total * 2.0**shift


@pytest.mark.parametrize("weight", ["sample_weight", "class_weight"])
@pytest.mark.parametrize("lib", ["numpy"], indirect=True)
def test_moderate_weights_are_left_alone(lib, weight):
    """Between 2^-16 and 2^16 for float32: a third of the range that a factor has."""
    cx = context(lib.array([1.0]), lib.xp)

    def is_moderate(values: list[float]) -> bool:
        return moderate(Operands(lib.array([0.0]))._replace(**{weight: lib.array(values)}), cx)

    assert is_moderate([0.0, -(2.0**16), 2.0**-16, 1.0])
    assert is_moderate([])
    assert not is_moderate([1.0, 2.0**17])
    assert not is_moderate([1.0, 2.0**-17])
    assert not is_moderate([1.0, np.nan])
