"""What the gradient is multiplied by, and the gradient to soft targets."""

from __future__ import annotations

from functools import partial

import numpy as np

from ..model import DTYPES, Case
from .arrays import KEEP, MASKED, NAN, ONE, P_MASKED, WIDE, P, S, W, X, Y, changed, confident, soft
from .making import NONE, github, made, torch

UP = np.array([0.0, 1.0, -2.5, 0.125, 1000.0, -0.75])


def cases() -> list[Case]:
    """Return the families."""
    return [*_upstream(), *_soft_gradient()]


def _upstream() -> list[Case]:
    see = github("linkedin/Liger-Kernel/issues/968", "linkedin/Liger-Kernel/pull/1298")
    base = partial(made, "upstream", x=X, targets=Y, dtypes=WIDE, see=see)
    reason = "every row's gradient is multiplied by its own number, not by the first row's"
    rows = partial(base, reason=reason, **NONE, upstream=UP)
    one = partial(rows, dtypes=ONE)
    reason = "the upstream of a reduced loss is a number, which is not always 1"
    reduced = partial(base, reason=reason)
    return [
        rows("rows", quick=True, dtypes=DTYPES),
        rows("rows, the first 0 alone", upstream=np.array([0.0, 1, 1, 1, 1, 1])),
        rows("rows, soft", targets=P, to_targets=True, quick=True),
        one("rows, smoothed", label_smoothing=0.1),
        one("rows, weighted", weight=W, sample_weight=S),
        one("rows, z-loss", z_loss=0.5),
        one("rows, softcap", softcap=8.0),
        rows("rows, ignored", targets=np.where(KEEP, Y, -100)),
        rows("rows, masked", x=MASKED),
        one("rows, absent NaN", x=changed(X, 0, NAN), where=np.arange(6) > 0),
        reduced("mean, 2.5", upstream=2.5, quick=True),
        reduced("sum, -0.5", reduction="sum", upstream=-0.5),
        reduced("mean, 0", upstream=0.0),
        reduced("mean, a loss scale", upstream=65536.0),
    ]


def _soft_gradient() -> list[Case]:
    reason = "targets may be a teacher's output: their gradient is the losses of the classes"
    case = partial(made, "soft gradient", reason=reason, x=X, targets=P, to_targets=True)
    case = partial(case, dtypes=ONE, see=torch(56683))
    drift = "Σ W_i depends on the targets too: the mean's gradient has that term"
    mean = partial(case, reason=drift)
    total = partial(case, reduction="sum")
    reason = "a masked class of target 0 has an infinite loss, and a finite gradient"
    masked = partial(case, reason=reason, x=MASKED, targets=P_MASKED)
    every = {"weight": W, "sample_weight": S, "where": KEEP, "label_smoothing": 0.1, "z_loss": 0.5}
    sums = P * np.array([[0.5], [1], [2], [0], [1.5], [1]])
    of_rows = "targets need not sum to 1: a row's weight does"
    nothing = "a class of weight 0 has no gradient at all"
    return [
        mean("mean", quick=True, dtypes=("float32", "float64", "bfloat16")),
        total("sum", dtypes=WIDE),
        case("rows", **NONE),
        mean("weight", weight=W, quick=True),
        total("weight, sum", weight=W),
        mean("sample weight", sample_weight=S),
        case("where", where=KEEP),
        case("smoothed", label_smoothing=0.1),
        total("smoothed, sum", label_smoothing=0.1),
        total("smoothed away", label_smoothing=1.0),
        case("z-loss", z_loss=0.5, quick=True),
        total("z-loss, sum", z_loss=0.5),
        total("softcap", softcap=8.0),
        case("normalizer", reason="with a denominator of its own, no drift", normalizer=4.0),
        case("normalizer an array", normalizer=np.array(4.0), weight=W),
        total("everything, sum", **every),
        mean("everything, mean", **every),
        masked("masked", quick=True),
        masked("masked, sum", reduction="sum"),
        masked("masked, smoothed", label_smoothing=0.1),
        masked(
            "target on a masked class",
            reason="where the loss is +inf the gradient is the same formula",
            targets=changed(P_MASKED, (1, 0), 0.25),
            reduction="sum",
        ),
        total("infinite", targets=np.eye(5)[Y], x=changed(X, (2, Y[2]), np.inf)),
        case("rows of other sums", reason=of_rows, targets=sums),
        mean("rows of other sums, smoothed", targets=sums, label_smoothing=0.1),
        case("class weight 0", reason=nothing, weight=changed(W, 2, 0.0)),
        total("confident", targets=np.eye(10)[:1], x=confident(20)),
        case("upstream", **NONE, upstream=UP),
        mean("another batch", targets=soft(6, 5, 5), reduction="mean", upstream=2.5),
    ]
