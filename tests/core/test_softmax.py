"""The formulas that the engines share, on the paths that eager NumPy does not take.

Under tracing and autodiff nothing is written in place, tanh is made of exp, and the gradient is the
form that an autodiff can follow. Expected values are the oracle's, and those of the formulas.
"""

import numpy as np
import pytest

from expected import close, expected, inputs, labels, soft
from xloss._arrays.context import context, functional
from xloss.core.options import Operands, Options
from xloss.core.row_stats import exponentials, row_stats
from xloss.core.softmax import gradient, parts, second_sums, softcapped
from xloss.core.targets import prepare

PLACES = pytest.mark.parametrize("lib", ["numpy", "no_x64"], indirect=True)
ROWS, CLASSES = 5, 4
WEIGHT = np.array([1.0, 0.5, 1.75, 0.0])


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
