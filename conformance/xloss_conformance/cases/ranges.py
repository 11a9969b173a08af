"""Weights, losses and logits at the ends of a dtype's range: right results past what overflows."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

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


def cases() -> Iterator[Case]:
    """Yield the family of cross_entropy, and cases of the other losses' families."""
    for dtype in MOST:
        yield from _weights(partial(made, "range", dtypes=(dtype,), x=X, targets=Y), dtype)
    huge = partial(made, "range", x=X, targets=P, to_targets=True, dtypes=ONE, see=MEAN)
    reason = "the sum of weights overflows, and inf/inf is NaN: the mean is that of plain rows"
    yield huge("huge class weights, soft", reason, weight=np.ones(5) * HUGE["float32"])
    yield from _cross_entropy()
    for dtype in MOST:
        yield from _others(partial(made, dtypes=(dtype,)), dtype, MOST[dtype])
    reason = "the logarithm of a negative number is NaN, in the value and in the gradient alike"
    x, see = put(probs(), (1, 1, -0.25), (2, 0, -(2.0**-10))), github("ml-explore/mlx/pull/1280")
    rows = partial(made, "log loss", loss="log_loss", **NONE, x=x, targets=np.full((6, 5), 0.2))
    rows = partial(rows, upstream=UPSTREAM, to_targets=True, dtypes=WIDE, see=see)
    yield rows("negative, soft", reason, quick=True)


def _weights(case: partial[Case], dtype: str) -> Iterator[Case]:
    huge = "the sum of weights overflows, and inf/inf is NaN: the mean is that of plain rows"
    tiny = "1e-8 in the denominator leaves nothing of the mean; weight times loss underflows"
    case = partial(case, see=MEAN)
    for name, reason, size in (("huge", huge, HUGE[dtype]), ("tiny", tiny, TINY[dtype])):
        label, weights = f"{name} sample weights, {dtype}", np.ones(6) * size
        yield case(label, reason, sample_weight=weights, quick=dtype == "float32")
        yield case(f"{name} class weights, {dtype}", reason, weight=np.ones(5) * size)
    # Wider apart than float32's 2^100 the least may be taken for more than they are.
    most = HUGE[dtype]
    apart = np.array([most, most * 2.0**-90, most, most * 2.0**-60, 0.0, most])
    reason = "the sum of weights overflows: their largest is taken off, and the small ones are kept"
    yield case(f"huge and moderate sample weights, {dtype}", reason, sample_weight=apart)
    most = MOST[dtype]
    far = changed(np.zeros((6, 97)), (slice(None), 0), most)
    case = partial(case, x=far, targets=np.arange(1, 7), reduction="sum", see=torch(51906))
    reason = "a sum beyond the largest number is +inf: a compensated sum makes inf - inf of it"
    yield case(f"sum of six of {most:.2g}", reason, quick=dtype == "float32")


def _cross_entropy() -> Iterator[Case]:
    zeros = {"x": np.array([[0.0, 1.0], [2.0, 0.5]]), "targets": np.array([[0, 0], [0.25, 0.75]])}
    soft = partial(made, "soft gradient", **zeros, **NONE, to_targets=True, dtypes=WIDE)
    soft = partial(soft, see=github("tensorflow/tensorflow/issues/60314"))
    reason = (
        "z-loss is weighed by the row's Σ t: its gradient to a target is λ lse² though all are 0"
    )
    yield soft("a row of zeros, z-loss", reason, z_loss=0.1, quick=True)
    floats = {"x": X, "targets": Y.astype(np.float64), "dtypes": ONE, "value_only": True}
    wrong = partial(made, "errors", **floats, error=ValueError, names="targets")
    reason = "cast to integers labels of 16 bits are other classes, and NaN is one"
    yield wrong("labels as floats", reason, see=github("tensorflow/tensorflow/issues/50964"))


def _others(case: partial[Case], dtype: str, most: float) -> Iterator[Case]:
    ends = at_labels(log_probs(), [most, most, most, -most, -most, -most])
    given: dict[str, Any] = {"loss": "nll_loss", "x": ends, "targets": LABELS, "see": MEAN}
    reason = "three rows overflow to inf and the others to -inf on the way to a finite sum: NaN"
    for reduction in ("sum", "mean"):
        label = f"{reduction} of rows of ±{most:.2g}"
        yield case("nll", label, reason, **given, reduction=reduction)
    x = np.array([0.7, -0.7, 0.6, -0.6, 0.4, -0.4]) * most
    given = {"x": x, "targets": np.array([0.3, 0.3, 1.0, 0.0, 0.75, 0.25]), "to_targets": True}
    given |= {"loss": "sigmoid_focal_loss", "see": github("google-deepmind/optax/pull/1346")}
    reason = "γ times the logit, or the loss times p, overflows in the gradient: inf·0 is NaN"
    for gamma, own in ((2, {}), (5, {"gamma": 5.0})):
        given["quick"] = gamma == 2 and dtype == "float32"
        label = f"logits beyond max/γ, gamma {gamma}, {dtype}"
        yield case("sigmoid focal", label, reason, **given, **NONE, **own)
    small = {"float32": -110.0, "float64": -800.0}[dtype]  # of which exp is 0
    given = {"loss": "kl_div", "log_target": True, "upstream": UPSTREAM, "to_targets": True, **NONE}
    given["x"], given["targets"] = put(log_probs(), (1, 1, -INF)), put(log_probs(), (1, 1, small))
    reason = "exp of the target underflows: 0·inf is NaN where a target that is not 0 costs +inf"
    case_of_kl = partial(case, see=github("google-deepmind/optax/pull/1786"))
    yield case_of_kl("kl", f"log_target, masked target of e^{small:g}", reason, **given)
    p = {"float32": 1e-40, "float64": 1e-310}[dtype]  # of which the reciprocal overflows
    given = {"x": put(probs(), (0, 0, p), (2, 2, p)), "loss": "log_loss", "see": torch(28441)}
    given["targets"] = put(np.full((6, 5), 0.2), (0, 0, 1e-10), (2, 2, 1e-10))
    reason = "the gradient is t/p, finite, where t·(1/p) is infinite"
    label = f"1/p overflows, {dtype}"
    yield case("log loss", label, reason, **given, **NONE, quick=dtype == "float32")
