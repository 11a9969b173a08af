"""What the gradient is multiplied by, and the gradient to soft targets."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..model import Array, Case
from .arrays import (
    INF,
    KEEP,
    MASKED,
    NAN,
    ONE,
    P_MASKED,
    WIDE,
    P,
    S,
    W,
    X,
    Y,
    changed,
    confident,
    one_hot,
    soft,
)
from .making import NONE

UP = np.array([0.0, 1.0, -2.5, 0.125, 1000.0, -0.75])


def cases() -> list[Case]:
    """Return the families."""
    return [*_upstream(), *_soft_gradient()]


def _upstream() -> list[Case]:
    reason = "every row's gradient is multiplied by its own number, not by the first row's"
    see = (
        "https://github.com/linkedin/Liger-Kernel/issues/968",
        "https://github.com/linkedin/Liger-Kernel/pull/1298",
    )
    one = "the upstream of a reduced loss is a number, which is not always 1"
    nan = changed(X, 0, NAN)

    def case(label: str, t: Array = Y, reason: str = reason, **rest: Any) -> Case:
        given = {"x": X, "options": NONE, "upstream": UP, "dtypes": WIDE, "see": see, **rest}
        return Case("upstream", label, reason, targets=t, **given)

    return [
        case("rows", quick=True, dtypes=("float32", "float64", "float16", "bfloat16")),
        case("rows, the first 0 alone", upstream=np.array([0.0, 1, 1, 1, 1, 1])),
        case("rows, soft", P, to_targets=True, quick=True),
        case("rows, smoothed", options={"label_smoothing": 0.1, **NONE}, dtypes=ONE),
        case("rows, weighted", options={"weight": W, "sample_weight": S, **NONE}, dtypes=ONE),
        case("rows, z-loss", options={"z_loss": 0.5, **NONE}, dtypes=ONE),
        case("rows, softcap", options={"softcap": 8.0, **NONE}, dtypes=ONE),
        case("rows, ignored", np.where(KEEP, Y, -100)),
        case("rows, masked", x=MASKED),
        case("rows, absent NaN", x=nan, options={"where": np.arange(6) > 0, **NONE}, dtypes=ONE),
        case("mean, 2.5", reason=one, options={}, upstream=2.5, quick=True),
        case("sum, -0.5", reason=one, options={"reduction": "sum"}, upstream=-0.5),
        case("mean, 0", reason=one, options={}, upstream=0.0),
        case("mean, a loss scale", reason=one, options={}, upstream=65536.0),
    ]


def _soft_gradient() -> list[Case]:
    reason = "targets may be a teacher's output: their gradient is the losses of the classes"
    mean = "Σ W_i depends on the targets too: the mean's gradient has that term"
    see = ("https://github.com/pytorch/pytorch/issues/56683",)
    masked = "a masked class of target 0 has an infinite loss, and a finite gradient"
    every = {"weight": W, "sample_weight": S, "where": KEEP, "label_smoothing": 0.1, "z_loss": 0.5}
    sums = P * np.array([[0.5], [1], [2], [0], [1.5], [1]])
    weightless = {"weight": changed(W, 2, 0.0)}

    def case(
        label: str, options: Any = None, t: Array = P, reason: str = reason, **rest: Any
    ) -> Case:
        given = {"x": X, "dtypes": ONE, "see": see, **rest}
        return Case(
            "soft gradient",
            label,
            reason,
            targets=t,
            options=options or {},
            to_targets=True,
            **given,
        )

    return [
        case("mean", reason=mean, quick=True, dtypes=("float32", "float64", "bfloat16")),
        case("sum", {"reduction": "sum"}, dtypes=WIDE),
        case("rows", NONE),
        case("weight", {"weight": W}, reason=mean, quick=True),
        case("weight, sum", {"weight": W, "reduction": "sum"}),
        case("sample weight", {"sample_weight": S}, reason=mean),
        case("where", {"where": KEEP}),
        case("smoothed", {"label_smoothing": 0.1}),
        case("smoothed, sum", {"label_smoothing": 0.1, "reduction": "sum"}),
        case("smoothed away", {"label_smoothing": 1.0, "reduction": "sum"}),
        case("z-loss", {"z_loss": 0.5}, quick=True),
        case("z-loss, sum", {"z_loss": 0.5, "reduction": "sum"}),
        case("softcap", {"softcap": 8.0, "reduction": "sum"}),
        case("normalizer", {"normalizer": 4.0}, reason="with a denominator of its own, no drift"),
        case("normalizer an array", {"normalizer": np.array(4.0), "weight": W}),
        case("everything, sum", {**every, "reduction": "sum"}),
        case("everything, mean", every, reason=mean),
        case("masked", t=P_MASKED, x=MASKED, reason=masked, quick=True),
        case("masked, sum", {"reduction": "sum"}, P_MASKED, masked, x=MASKED),
        case("masked, smoothed", {"label_smoothing": 0.1}, P_MASKED, masked, x=MASKED),
        case(
            "target on a masked class",
            {"reduction": "sum"},
            changed(P_MASKED, (1, 0), 0.25),
            "where the loss is +inf the gradient is the same formula",
            x=MASKED,
        ),
        case("infinite", {"reduction": "sum"}, one_hot(Y, 5), x=changed(X, (2, Y[2]), INF)),
        case("rows of other sums", t=sums, reason="targets need not sum to 1: a row's weight does"),
        case("rows of other sums, smoothed", {"label_smoothing": 0.1}, sums, mean),
        case("class weight 0", weightless, reason="a class of weight 0 has no gradient at all"),
        case("confident", {"reduction": "sum"}, one_hot(np.array([0]), 10), x=confident(20)),
        case("upstream", NONE, upstream=UP),
        case("another batch", {"reduction": "mean"}, soft(6, 5, 5), mean, upstream=2.5),
    ]
