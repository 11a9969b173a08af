"""Statistics of a row, and of a row whose classes lie in two slices: by their definitions.

Expected values are the sums in the docstring of RowStats, term by term and exactly added.
"""

from math import exp, fsum, inf, nan

import numpy as np
import pytest

from libraries import Library
from xloss._arrays.context import context
from xloss.core.options import Options
from xloss.core.row_stats import RowStats, exponentials, merge, row_stats
from xloss.core.targets import Targets

PLACES = pytest.mark.parametrize("lib", ["numpy", "no_x64"], indirect=True)
CUT = 3
ROWS = [
    [1.0, 2.5, -0.5, 0.25, 7.0, 1.5, -20.0],  # the second slice has the maximum
    [9.0, 2.5, -0.5, 0.25, 7.0, 1.5, -20.0],  # the first has it
    [4.0, 1.0, 4.0, 4.0, 0.0, -1.0, 2.0],  # both have it
    [-90.0, 0.0, -80.0, -85.0, -82.0, -90.0, -83.0],  # the rest is far below 1
    [-inf, -inf, -inf, 1.0, 3.0, -inf, 2.0],
    [1.0, -inf, 2.0, -inf, -inf, -inf, -inf],
]
LABELS = [1, 4, 3, 0, 6, 2]
PROBS = [[0.0, 0.5, 0.25, 0.125, 0.0, 0.125, 0.0]] * 4 + [
    [0.0, 0.0, 0.0, 0.5, 0.25, 0.0, 0.25],
    [0.75, 0.0, 0.25, 0.0, 0.0, 0.0, 0.0],
]
WEIGHT = [1.0, 0.5, 2.0, 0.0, 3.0, 1.5, 0.25]


def total(terms: list[tuple[float, float]]) -> float:
    """The sum of products in which a factor of 0 is stronger than an infinity."""
    return fsum(a * b for a, b in terms if a)


def defined(z: list[float], label: int, t: list[float], w: list[float], how: str) -> list[float]:
    m = max(z)
    gap = [0.0 if v == m else m - v for v in z]
    possible = [float(v > -inf) for v in z]
    found = [m, fsum(exp(v - m) for v in z if v != m) + (z.count(m) - 1)]
    if "labels" in how:
        found += [1.0, 1.0, gap[label]]
    else:
        a = [x * y for x, y in zip(w, t, strict=True)]
        found += [fsum(a), fsum(t) if "smooth" in how else fsum(a)]
        found += [total([*zip(a, gap, strict=True)])]
    if "smooth" in how:
        pw = [x * y for x, y in zip(possible, w, strict=True)]
        found += [fsum(possible), fsum(pw), total([*zip(pw, gap, strict=True)])]
    return found


def of_slice(lib: Library, how: str, cut: slice, unit: bool) -> RowStats:
    z = np.asarray(ROWS)[:, cut]
    cx = context(lib.array(z), lib.xp)
    start, stop, _ = cut.indices(len(WEIGHT))
    w = None if unit else lib.array(WEIGHT[cut])
    if "labels" in how:
        y = np.asarray(LABELS)
        here = (start <= y) & (y < stop)
        local = None if stop - start == len(WEIGHT) else lib.array(here, "bool")
        safe = lib.like(np.where(here, y - start, 0))
        t = Targets(labels=safe, label_local=local, class_weight=w)
    else:
        t = Targets(probs=lib.array(np.asarray(PROBS)[:, cut]), class_weight=w)
    smoothing = 0.125 if "smooth" in how else 0.0
    options = Options("cross_entropy", indexed="labels" in how, label_smoothing=smoothing)
    with np.errstate(all="ignore"):
        return row_stats(lib.array(z), t, options, cx)


def numbers(lib: Library, s: RowStats) -> np.ndarray:
    fields = [f for f in s if f is not None]
    columns = [np.broadcast_to(f if isinstance(f, float) else lib.read(f), 6) for f in fields]
    return np.stack(columns, axis=-1)


@PLACES
@pytest.mark.parametrize("how", ["labels", "labels, smooth", "soft", "soft, smooth"])
@pytest.mark.parametrize("unit", [True, False], ids=["unweighted", "weighted"])
def test_statistics_are_the_sums_whole_and_merged(lib, how, unit):
    w = [1.0] * len(WEIGHT) if unit else WEIGHT
    rows = zip(ROWS, LABELS, PROBS, strict=True)
    want = np.array([defined(z, y, t, w, how) for z, y, t in rows])
    whole = of_slice(lib, how, slice(None), unit)
    np.testing.assert_allclose(numbers(lib, whole), want, rtol=2.0**-20)
    first, second = (of_slice(lib, how, s, unit) for s in (slice(CUT), slice(CUT, None)))
    cx = context(lib.array(ROWS), lib.xp)
    for a, b in ((first, second), (second, first)):
        with np.errstate(all="ignore"):
            merged = numbers(lib, merge(a, b, cx))
        np.testing.assert_allclose(merged, want, rtol=2.0**-20)


@PLACES
def test_a_nan_of_either_slice_stays(lib):
    cx = context(lib.array(ROWS), lib.xp)
    fine = RowStats(lib.array([1.0, 2.0]), lib.array([0.5, 0.5]))
    bad = RowStats(lib.array([nan, 0.0]), lib.array([nan, 0.5]))
    for a, b in ((fine, bad), (bad, fine)):
        merged = merge(a, b, cx)
        assert np.isnan(lib.read(merged.max)).tolist() == [True, False]
        assert np.isnan(lib.read(merged.tail_sum)).tolist() == [True, False]


@PLACES
def test_exponentials_of_a_slice_are_about_the_maximum_of_the_row(lib):
    z = lib.array(np.asarray(ROWS)[:3, CUT:])
    known = RowStats(lib.array([7.0, 9.0, 4.0]), lib.array([0.25, 0.5, 2.0]))
    e = exponentials(z, context(z, lib.xp), known)
    m = np.array([[7.0], [9.0], [4.0]])
    below = np.where(lib.read(z) == m, 0.0, np.exp(lib.read(z).astype(float) - m))
    np.testing.assert_array_equal(lib.read(e.max), m)
    np.testing.assert_array_equal(lib.read(e.at_max), lib.read(z) == m)
    np.testing.assert_allclose(lib.read(e.below_max), below, rtol=2.0**-22)
    np.testing.assert_array_equal(lib.read(e.tail_sum), [0.25, 0.5, 2.0])
