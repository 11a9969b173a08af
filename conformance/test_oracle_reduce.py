# mypy: disable-error-code="no-untyped-def, no-untyped-call, arg-type, index, operator"
"""The oracle's reductions, its errors in ulp, and what it refuses."""

import math
import subprocess
import sys

import pytest

from oracle_numbers import (
    BCE,
    CE,
    FOCAL,
    INF,
    LOGITS,
    NAN,
    NLL,
    SOFT,
    WEIGHTED,
    close,
    gradient,
)
from xloss_conformance.oracle import binary_row, mp, reduce, softmax_row, ulp_error


@pytest.mark.parametrize("options", [{}, {"normalizer": 7}, {"reduction": "sum"}])
def test_reduce(options):
    b = softmax_row(CE, LOGITS, 1)

    def batch(x=LOGITS, t=SOFT):
        return reduce([softmax_row(CE, x, t, **WEIGHTED), None, b], **options)

    a, got = softmax_row(CE, LOGITS, SOFT, **WEIGHTED), batch()
    divisor = 1 if "reduction" in options else options.get("normalizer", a.weight + b.weight)
    assert close(got.value, (a.loss + b.loss) / divisor)
    assert close(got.grads[0], gradient(lambda x: batch(x=x).value, LOGITS))
    assert close(got.grads_targets[0], gradient(lambda t: batch(t=t).value, SOFT))
    assert got.grads[1] is got.grads_targets[1] is got.grads_targets[2] is None
    two = reduce([binary_row(BCE, 0.25, 1)] * 2, **options)
    want = [v / mp.mpf(divisor if options else 2) for v in (-4, mp.log(3))]
    assert close([two.grads[0], two.grads_targets[1]], want)


def test_reduce_without_a_contributing_row_or_with_a_nan():
    weightless = softmax_row(CE, LOGITS, SOFT, weight=[0, 0, 1, 0], label_smoothing=0.5)
    got = reduce([None, weightless])
    assert (got.value, got.grads, got.grads_targets) == (0, [None, [0] * 4], [None, [0] * 4])
    assert reduce([]).value == reduce([None]).value == reduce([None], normalizer=2).value == 0
    # A part of a batch whose other rows weigh something.
    assert reduce([weightless], normalizer=2).value == weightless.loss / 2 > 0
    assert reduce([weightless], normalizer=0).value == 0
    bad, good = softmax_row(CE, LOGITS, 4), softmax_row(CE, LOGITS, 1)
    assert mp.isnan(reduce([bad, good]).value)
    assert close(reduce([bad, good]).grads[1], [v / 2 for v in good.grad])


@pytest.mark.parametrize("x", [1.0, 0.1, -3.0, 1.7e308, 2.3e-308, 2.2e-308, 5e-324, 0.0])
def test_ulp_error_is_math_ulp(x):
    assert ulp_error(math.nextafter(x, x * INF if x else INF), mp.mpf(x), "float64") == 1
    assert ulp_error(0.0, 3 * mp.mpf(math.ulp(x)), "float64", scale=mp.mpf(x)) == 3


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
        (INF, 65520, "float16", 0),
        (INF, 65519, "float16", INF),
        (-INF, 1e9, "float16", INF),
        (INF, INF, "float32", 0),
        (INF, -INF, "float32", INF),
        (NAN, NAN, "float32", 0),
        (NAN, 1, "float32", INF),
        (1.0, NAN, "float32", INF),
        (1.0, INF, "float32", INF),
    ],
)
def test_ulp_error_by_hand(got, want, dtype, error):
    assert ulp_error(got, mp.mpf(want), dtype) == error


@pytest.mark.parametrize(
    ("function", "args", "options"),
    [
        (softmax_row, (BCE, LOGITS, 0), {}),
        (softmax_row, (NLL, LOGITS, 0), {"z_loss": 1}),
        (softmax_row, (FOCAL, LOGITS, 0), {"eps": 0.1}),
        (binary_row, (CE, 0.0, 0), {}),
        (binary_row, (BCE, 0.0, 0), {"pos_weight": 2}),
        (reduce, ([],), {"reduction": "none"}),
        (reduce, ([],), {"reduction": "sum", "normalizer": 2}),
    ],
)
def test_what_is_not_defined_is_refused(function, args, options):
    with pytest.raises(ValueError, match="no such"):
        function(*args, **options)


def test_it_needs_no_array_library_and_leaves_mpmath_s_precision_alone():
    script = """if True:
        import mpmath, sys, xloss_conformance.oracle as oracle
        oracle.softmax_row("cross_entropy", [1.0], 0)
        assert mpmath.mp.dps == 15 and not {"xloss", "numpy", "torch", "jax"} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", script], check=True)
