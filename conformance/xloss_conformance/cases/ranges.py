"""Weights, losses and logits at the ends of a dtype's range: right results past what overflows."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from ..model import Case
from .arrays import INF, ONE, WIDE, P, X, Y, changed
from .given import LABELS, UPSTREAM, at_labels, log_probs, probs, put
from .making import NONE, github, made, torch

# Each dtype's largest finite number.
MOST = {"float32": float(np.finfo(np.float32).max), "float64": float(np.finfo(np.float64).max)}
# Powers of 2 whose sum of six overflows, and whose product with a loss can underflow; the
# smallest normal numbers, since some libraries take what is below them for 0.
HUGE = {"float32": 2.0**127, "float64": 2.0**1023}
TINY = {"float32": 2.0**-126, "float64": 2.0**-1022}
MEAN = github("numpy/numpy/issues/8313", "arrayfire/arrayfire/issues/884")


def cases() -> list[Case]:
    """Return the family of cross_entropy, and cases of the other losses' families."""
    return [*_weights(), *_sums(), *_targets(), *_focal(), *_kl(), *_given()]


def _weights() -> Iterator[Case]:
    huge = "the sum of weights overflows, and inf/inf is NaN: the mean is that of plain rows"
    tiny = "1e-8 in the denominator leaves nothing of the mean; weight times loss underflows"
    ones = np.ones(6)
    for dtype in ("float32", "float64"):
        case = partial(made, "range", dtypes=(dtype,), x=X, targets=Y, see=MEAN)
        first = dtype == "float32"
        for name, reason, size in (("huge", huge, HUGE[dtype]), ("tiny", tiny, TINY[dtype])):
            label = f"{name} sample weights, {dtype}"
            yield case(label, reason, sample_weight=ones * size, quick=first)
            yield case(f"{name} class weights, {dtype}", reason, weight=np.ones(5) * size)
        # Wider apart than float32's 2^100 the least may be taken for more than they are.
        most = HUGE[dtype]
        yield case(
            f"huge and moderate sample weights, {dtype}",
            "the sum of weights overflows: their largest is taken off, and the small ones are kept",
            sample_weight=np.array([most, most * 2.0**-90, most, most * 2.0**-60, 0.0, most]),
        )
    soft = {"x": X, "targets": P, "to_targets": True, "dtypes": ONE, "see": MEAN}
    weight = np.ones(5) * HUGE["float32"]
    yield made("range", "huge class weights, soft", huge, **soft, weight=weight)


def _sums() -> Iterator[Case]:
    for dtype, most in MOST.items():
        far = np.zeros((6, 97))
        far[:, 0] = most
        yield made(
            "range",
            f"sum of six of {most:.2g}",
            "a sum beyond the largest number is +inf: a compensated sum makes inf - inf of it",
            x=far,
            targets=np.arange(1, 7),
            reduction="sum",
            dtypes=(dtype,),
            see=torch(51906),
            quick=dtype == "float32",
        )
        for reduction in ("sum", "mean"):
            yield made(
                "nll",
                f"{reduction} of rows of ±{most:.2g}",
                "three rows overflow to inf and the others to -inf on the way to a finite sum: NaN",
                x=at_labels(log_probs(), [most, most, most, -most, -most, -most]),
                targets=LABELS,
                loss="nll_loss",
                reduction=reduction,
                dtypes=(dtype,),
                see=MEAN,
            )


def _targets() -> Iterator[Case]:
    yield made(
        "soft gradient",
        "a row of zeros, z-loss",
        "z-loss is weighed by the row's Σ t: its gradient to a target is λ lse² though all are 0",
        x=np.array([[0.0, 1.0], [2.0, 0.5]]),
        targets=np.array([[0.0, 0.0], [0.25, 0.75]]),
        z_loss=0.1,
        **NONE,
        to_targets=True,
        dtypes=WIDE,
        see=github("tensorflow/tensorflow/issues/60314"),
        quick=True,
    )
    yield made(
        "errors",
        "labels as floats",
        "cast to integers labels of 16 bits are other classes, and NaN is one",
        x=X,
        targets=Y.astype(np.float64),
        error=ValueError,
        names="targets",
        dtypes=ONE,
        value_only=True,
        see=github("tensorflow/tensorflow/issues/50964"),
    )


def _focal() -> Iterator[Case]:
    for dtype, most in MOST.items():
        for gamma in (2.0, 5.0):
            power = {} if gamma == 2 else {"gamma": gamma}
            yield made(
                "sigmoid focal",
                f"logits beyond max/γ, gamma {gamma:g}, {dtype}",
                "γ times the logit, or the loss times p, overflows in the gradient: inf·0 is NaN",
                x=np.array([0.7, -0.7, 0.6, -0.6, 0.4, -0.4]) * most,
                targets=np.array([0.3, 0.3, 1.0, 0.0, 0.75, 0.25]),
                loss="sigmoid_focal_loss",
                **NONE,
                **power,
                to_targets=True,
                dtypes=(dtype,),
                see=github("google-deepmind/optax/pull/1346"),
                quick=gamma == 2 and dtype == "float32",
            )


def _kl() -> Iterator[Case]:
    # e^-110 is 0 in float32, e^-800 in float64.
    for dtype, small in (("float32", -110.0), ("float64", -800.0)):
        yield made(
            "kl",
            f"log_target, masked target of e^{small:g}",
            "exp of the target underflows: 0·inf is NaN where a target that is not 0 costs +inf",
            x=put(log_probs(), (1, 1, -INF)),
            targets=changed(log_probs(), (1, 1), small),
            loss="kl_div",
            **NONE,
            log_target=True,
            upstream=UPSTREAM,
            to_targets=True,
            dtypes=(dtype,),
            see=github("google-deepmind/optax/pull/1786"),
        )


def _given() -> Iterator[Case]:
    rows = partial(made, "log loss", loss="log_loss", **NONE)
    fifths = np.full((6, 5), 0.2)
    yield rows(
        "negative, soft",
        "the logarithm of a negative number is NaN, in the value and in the gradient alike",
        x=put(probs(), (1, 1, -0.25), (2, 0, -(2.0**-10))),
        targets=fifths,
        upstream=UPSTREAM,
        to_targets=True,
        dtypes=WIDE,
        see=github("ml-explore/mlx/pull/1280"),
        quick=True,
    )
    # 1/p overflows though t/p does not.
    for dtype, p, t in (("float32", 1e-40, 1e-10), ("float64", 1e-310, 1e-10)):
        yield rows(
            f"1/p overflows, {dtype}",
            "the gradient is t/p, finite, where t·(1/p) is infinite",
            x=put(probs(), (0, 0, p), (2, 2, p)),
            targets=put(fifths, (0, 0, t), (2, 2, t)),
            dtypes=(dtype,),
            see=torch(28441),
            quick=dtype == "float32",
        )
