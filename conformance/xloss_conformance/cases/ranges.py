"""Weights, losses and logits at the ends of a dtype's range: right results past what overflows."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from ..model import Case
from .arrays import INF, ONE, WIDE, P, X, Y, changed
from .given import GITHUB, LABELS, NONE, TORCH, UPSTREAM, log_probs, probs, put

# Each dtype's largest finite number.
MOST = {"float32": float(np.finfo(np.float32).max), "float64": float(np.finfo(np.float64).max)}
# Powers of 2 whose sum of six overflows, and whose product with a loss can underflow; the
# smallest normal numbers, since some libraries take what is below them for 0.
HUGE = {"float32": 2.0**127, "float64": 2.0**1023}
TINY = {"float32": 2.0**-126, "float64": 2.0**-1022}
MEAN = (f"{GITHUB}/numpy/numpy/issues/8313", f"{GITHUB}/arrayfire/arrayfire/issues/884")


def cases() -> list[Case]:
    """Return the family of cross_entropy, and cases of the other losses' families."""
    return [*_weights(), *_sums(), *_targets(), *_focal(), *_kl(), *_given()]


def _weights() -> Iterator[Case]:
    huge = "the sum of weights overflows, and inf/inf is NaN: the mean is that of plain rows"
    tiny = "1e-8 in the denominator leaves nothing of the mean; weight times loss underflows"
    ones = np.ones(6)
    for dtype in ("float32", "float64"):
        case = partial(Case, "range", dtypes=(dtype,), x=X, targets=Y)
        first = dtype == "float32"
        for name, reason, size in (("huge", huge, HUGE[dtype]), ("tiny", tiny, TINY[dtype])):
            label = f"{name} sample weights, {dtype}"
            yield case(label, reason, options={"sample_weight": ones * size}, see=MEAN, quick=first)
            label = f"{name} class weights, {dtype}"
            yield case(label, reason, options={"weight": np.ones(5) * size}, see=MEAN)
        # Wider apart than float32's 2^100 the least may be taken for more than they are.
        most = HUGE[dtype]
        mixed = np.array([most, most * 2.0**-90, most, most * 2.0**-60, 0.0, most])
        yield case(
            f"huge and moderate sample weights, {dtype}",
            "the sum of weights overflows: their largest is taken off, and the small ones are kept",
            options={"sample_weight": mixed},
            see=MEAN,
        )
    yield Case(
        "range",
        "huge class weights, soft",
        huge,
        X,
        P,
        options={"weight": np.ones(5) * HUGE["float32"]},
        to_targets=True,
        dtypes=ONE,
        see=MEAN,
    )


def _sums() -> Iterator[Case]:
    for dtype, most in MOST.items():
        far = np.zeros((6, 97))
        far[:, 0] = most
        yield Case(
            "range",
            f"sum of six of {most:.2g}",
            "a sum beyond the largest number is +inf: a compensated sum makes inf - inf of it",
            far,
            np.arange(1, 7),
            options={"reduction": "sum"},
            dtypes=(dtype,),
            see=(f"{TORCH}/51906",),
            quick=dtype == "float32",
        )
        signs = put(log_probs(), *((i, LABELS[i], most * (-1) ** (i // 3)) for i in range(6)))
        for reduction in ("sum", "mean"):
            yield Case(
                "nll",
                f"{reduction} of rows of ±{most:.2g}",
                "three rows overflow to inf and the others to -inf on the way to a finite sum: NaN",
                signs,
                LABELS,
                loss="nll_loss",
                options={"reduction": reduction},
                dtypes=(dtype,),
                see=MEAN,
            )


def _targets() -> Iterator[Case]:
    two = np.array([[0.0, 1.0], [2.0, 0.5]])
    soft = np.array([[0.0, 0.0], [0.25, 0.75]])
    zloss = {"z_loss": 0.1, "reduction": "none"}
    yield Case(
        "soft gradient",
        "a row of zeros, z-loss",
        "z-loss is weighed by the row's Σ t: its gradient to a target is λ lse² though all are 0",
        two,
        soft,
        options=zloss,
        to_targets=True,
        dtypes=WIDE,
        see=(f"{GITHUB}/tensorflow/tensorflow/issues/60314",),
        quick=True,
    )
    integers = f"{GITHUB}/tensorflow/tensorflow/issues/50964"
    kinds = partial(Case, "errors", x=X, dtypes=ONE, error=TypeError, value_only=True)
    yield kinds(
        "labels as floats",
        "cast to integers labels of 16 bits are other classes, and NaN is one",
        targets=Y.astype(np.float64),
        error=ValueError,
        names="targets",
        see=(integers,),
    )


def _focal() -> Iterator[Case]:
    beyond = "γ times the logit, or the loss times p, overflows in the gradient: inf·0 is NaN"
    see = (f"{GITHUB}/google-deepmind/optax/pull/1346",)
    for dtype, most in MOST.items():
        x = np.array([0.7, -0.7, 0.6, -0.6, 0.4, -0.4]) * most
        t = np.array([0.3, 0.3, 1.0, 0.0, 0.75, 0.25])
        for gamma in (2.0, 5.0):
            power = {} if gamma == 2 else {"gamma": gamma}
            yield Case(
                "sigmoid focal",
                f"logits beyond max/γ, gamma {gamma:g}, {dtype}",
                beyond,
                x,
                t,
                loss="sigmoid_focal_loss",
                options={**NONE, **power},
                to_targets=True,
                dtypes=(dtype,),
                see=see,
                quick=gamma == 2 and dtype == "float32",
            )


def _kl() -> Iterator[Case]:
    # e^-110 is 0 in float32, e^-800 in float64.
    for dtype, small in (("float32", -110.0), ("float64", -800.0)):
        yield Case(
            "kl",
            f"log_target, masked target of e^{small:g}",
            "exp of the target underflows: 0·inf is NaN where a target that is not 0 costs +inf",
            put(log_probs(), (1, 1, -INF)),
            changed(log_probs(), (1, 1), small),
            loss="kl_div",
            options={**NONE, "log_target": True},
            upstream=UPSTREAM,
            to_targets=True,
            dtypes=(dtype,),
            see=(f"{GITHUB}/google-deepmind/optax/pull/1786",),
        )


def _given() -> Iterator[Case]:
    rows = partial(Case, "log loss", loss="log_loss")
    negative = put(probs(), (1, 1, -0.25), (2, 0, -(2.0**-10)))
    yield rows(
        "negative, soft",
        "the logarithm of a negative number is NaN, in the value and in the gradient alike",
        negative,
        np.full((6, 5), 0.2),
        options=NONE,
        upstream=UPSTREAM,
        to_targets=True,
        dtypes=WIDE,
        see=(f"{GITHUB}/ml-explore/mlx/pull/1280",),
        quick=True,
    )
    # 1/p overflows though t/p does not.
    for dtype, p, t in (("float32", 1e-40, 1e-10), ("float64", 1e-310, 1e-10)):
        yield rows(
            f"1/p overflows, {dtype}",
            "the gradient is t/p, finite, where t·(1/p) is infinite",
            put(probs(), (0, 0, p), (2, 2, p)),
            put(np.full((6, 5), 0.2), (0, 0, t), (2, 2, t)),
            options=NONE,
            dtypes=(dtype,),
            see=(f"{TORCH}/28441",),
            quick=dtype == "float32",
        )
