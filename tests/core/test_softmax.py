"""The formulas that the engines share, on the paths that eager NumPy does not take.

Under tracing and autodiff nothing is written in place, tanh is made of exp, and the gradient is the
form that an autodiff can follow. Expected values are the oracle's, and those of the formulas.
"""

from math import inf, nan
from math import tanh as exact_tanh

import numpy as np
import pytest

from expected import close, expected, inputs, labels, soft
from xloss._arrays.context import context, functional
from xloss.core.options import Operands, Options
from xloss.core.row_stats import exponentials, row_stats
from xloss.core.softmax import focal, gradient, losses, parts, second_sums, softcapped, tanh
from xloss.core.targets import Targets, prepare

PLACES = pytest.mark.parametrize("lib", ["numpy", "no_x64"], indirect=True)
ROWS, CLASSES = 5, 4
WEIGHT = np.array([1.0, 0.5, 1.75, 0.0])


@PLACES
@pytest.mark.parametrize("traced", [False, True])
def test_tanh_on_both_sides_of_a_half(lib, traced):
    u = np.linspace(-12, 12, 97).astype(np.float32)
    u = np.concatenate([u, [-inf, inf, 1e-30, -1e-30]]).astype(np.float32)
    cx = context(lib.array(u), lib.xp)
    got = lib.host(tanh(lib.array(u), functional(cx) if traced else cx))
    close(got, [float(exact_tanh(v)) for v in u.tolist()], within=4)


@PLACES
def test_a_softcap_keeps_a_masked_class_and_no_other(lib):
    z = lib.array([[-inf, 3.0, inf, nan]])
    cx = context(z, lib.xp)
    capped = lib.host(softcapped(z, Options("cross_entropy", softcap=2.0), cx))[0]
    np.testing.assert_allclose(capped, [-inf, 2 * exact_tanh(1.5), 2.0, nan], rtol=2.0**-22)


# p, nll, gamma -> f and s of the docstring, in the limit where 1 - p is 0.
FOCAL = [
    (1.0, 0.0, 0.0, 0.0, 1.0),
    (1.0, 0.0, 2.0, 0.0, 0.0),
    (0.5, 0.75, 0.0, 0.75, 1.0),
    (0.5, 0.75, 2.0, 0.1875, 0.625),
    (0.0, inf, 0.0, inf, 1.0),
    (0.0, inf, 2.0, inf, 1.0),
]


@PLACES
@pytest.mark.parametrize(("p", "nll", "gamma", "loss", "slope"), FOCAL)
def test_focal_factors(lib, p, nll, gamma, loss, slope):
    given = (lib.array([v]) for v in (p, 1.0 - p, nll))
    f, s = focal(*given, gamma, context(lib.array([p]), lib.xp))
    assert (float(f[0]), float(s[0])) == (loss, slope)


def form(options: dict[str, object], soft_targets: bool) -> Options:
    kind = "focal_loss" if "gamma" in options else "cross_entropy"
    given = {k: v for k, v in options.items() if k not in ("weight", "sample_weight")}
    return Options(kind, indexed=not soft_targets, reduction="sum", **given)


OPTIONS = [
    {},
    {"weight": WEIGHT},
    {"sample_weight": np.array([1.0, 0.5, 0.0, 2.0, 1.5])},
    {"z_loss": 0.25},
    {"z_loss": 0.25, "weight": WEIGHT, "softcap": 3.0},
    {"label_smoothing": 0.25},
    {"gamma": 2.0},
    {"gamma": 2.0, "weight": WEIGHT},
    {"gamma": 1.5, "weight": WEIGHT, "label_smoothing": 0.25},
]


@PLACES
@pytest.mark.parametrize("given", ["nothing", "statistics"])
@pytest.mark.parametrize("soft_targets", [False, True], ids=["labels", "soft"])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: " ".join(o) or "plain")
def test_the_gradient_of_operations_that_are_recorded(lib, options, soft_targets, given):
    """From the row alone, and from statistics of the whole row, as a slice of classes has them."""
    x = inputs("cross_entropy", (ROWS, CLASSES))
    t = soft(x.shape) if soft_targets else labels(ROWS, CLASSES)
    name = "focal_loss" if "gamma" in options else "cross_entropy"
    want = expected(name, x, t, reduction="sum", **options)
    cx = functional(context(lib.array(x), lib.xp))
    arrays = {k: lib.array(v) for k, v in options.items() if isinstance(v, np.ndarray)}
    class_weight = arrays.pop("weight", None)
    o = Operands(lib.array(x), lib.like(t), class_weight=class_weight, **arrays)
    chosen = form(options, soft_targets)
    safe = prepare(o, chosen, cx, CLASSES)
    z = softcapped(o.x, chosen, cx)
    s = sums = None
    if given == "statistics":
        s = row_stats(z, safe, chosen, cx)
        sums = second_sums(z, s, safe, chosen, cx, exponentials(z, cx))
    got = gradient(o.x, z, safe, chosen, cx, 1.0, parts(z, cx), s, sums)
    close(lib.host(got), want.grad)


@PLACES
@pytest.mark.parametrize("given", ["nothing", "statistics"])
@pytest.mark.parametrize("kind", ["logsumexp", "entropy"])
def test_losses_without_targets(lib, kind, given):
    x = inputs("cross_entropy", (ROWS, CLASSES))
    lse = np.log(np.exp(x).sum(-1, keepdims=True))
    p, nll = np.exp(x - lse), lse - x
    h = (p * nll).sum(-1, keepdims=True)
    value, grad = (lse, p) if kind == "logsumexp" else (h, p * (nll - h))
    cx = functional(context(lib.array(x), lib.xp))
    z, t, options = lib.array(x), Targets(), Options(kind)
    s = row_stats(z, t, options, cx)
    sums = second_sums(z, s, t, options, cx)
    np.testing.assert_allclose(lib.read(losses(s, t, options, cx, sums)), value[:, 0], rtol=2e-6)
    known = (s, sums) if given == "statistics" else (None, None)
    got = gradient(z, z, t, options, cx, 2.0, parts(z, cx), *known)
    np.testing.assert_allclose(lib.host(got), 2 * grad, rtol=2e-6, atol=4e-7)


@PLACES
def test_the_log_sum_exp_of_no_possible_class_is_minus_infinity(lib):
    z = lib.array([[-inf, -inf], [0.0, -inf]])
    cx = context(z, lib.xp)
    with np.errstate(all="ignore"):
        s = row_stats(z, Targets(), Options("logsumexp"), cx)
        got = losses(s, Targets(), Options("logsumexp"), cx)
    np.testing.assert_array_equal(lib.read(got), [-inf, 0.0])
