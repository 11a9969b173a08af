"""Every combination of weights, masks, smoothing, reduction and targets; z-loss and softcap.

And what the gradient is multiplied by, and the gradient to soft targets.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from ..model import DTYPES, Case
from . import arrays
from .arrays import INF, KEEP, MASKED, ONE, P_MASKED, WIDE, P, S, W, X, Y, changed, confident
from .making import NONE, github, keras, made, torch

WEIGHTED = torch(107680)
SAMPLES = keras(19740)
SMOOTHED = github("NVIDIA/Megatron-LM/issues/737")
UP = np.array([0.0, 1.0, -2.5, 0.125, 1000.0, -0.75])


def cases() -> list[Case]:
    """Return the families."""
    return [*_options(), *_z_loss(), *_softcap(), *_upstream(), *_soft_gradient()]


def _options() -> Iterator[Case]:
    case = partial(made, "options", x=X, dtypes=ONE)
    arrays = {"weight": W, "sample_weight": S, "where": KEEP}
    quick = {
        "weight, mean, soft",
        "sample_weight, mean, index",
        "where, mean, index",
        "smoothed, mean, index",
        "weight, sample_weight, where, smoothed, mean, soft",
        "weight, sample_weight, where, smoothed, mean, index",
        "weight, sum, index",
    }
    for flags in product((False, True), repeat=4):
        used = [name for name, on in zip((*arrays, "smoothed"), flags, strict=True) if on]
        given: dict[str, Any] = {name: arrays[name] for name in used if name in arrays}
        if flags[3]:
            given["label_smoothing"] = 0.1
        for reduction, kind in product(("mean", "sum", "none"), ("index", "soft")):
            label = ", ".join([*used, reduction, kind])
            see: tuple[str, ...] = ()
            if reduction == "mean":
                see = WEIGHTED * flags[0] + SAMPLES * flags[1]
            one = partial(case, targets=Y if kind == "index" else P, **given, reduction=reduction)
            one = partial(one, quick=label in quick, see=see + SMOOTHED * flags[3])
            yield one(label, _reason(flags, reduction, kind))
    whole = (
        "the denominator is what is given, the tokens of a whole batch say, and no sum of weights"
    )
    normalizer = partial(case, reason=whole, **arrays, normalizer=4.0)
    yield normalizer("normalizer, index", targets=Y, quick=True)
    yield normalizer("normalizer, soft", targets=P)


def _reason(flags: tuple[bool, ...], reduction: str, kind: str) -> str:
    weight, samples, where, smoothed = flags
    if reduction == "mean" and (weight or samples):
        which = "Σ_j weight_j t_ij" if kind == "soft" and weight else "the weights"
        return f"the mean divides by {which} of the present rows, not by their number"
    if reduction == "mean" and where:
        return "the mean is over the present rows"
    if smoothed and weight:
        return "a smoothed row's classes are weighed one by one, not all by the label's weight"
    if smoothed:
        return "ε is spread over all classes, the label's included"
    return "options act together as each does alone"


def _z_loss() -> Iterator[Case]:
    reason = "λ·W·lse² weighs as its row does, and stays out of smoothing"
    case = partial(made, "z-loss", reason=reason, x=X, targets=Y, z_loss=0.5, dtypes=ONE)
    case = partial(case, see=github("allenai/OLMo-core/pull/702"))
    weighted = partial(case, weight=W, sample_weight=S)
    at_0 = X - np.round(np.log(np.exp(X).sum(1)) * 1024)[:, None] / 1024
    sums = P * np.array([[0.5], [1], [2], [0], [1], [1]])
    of_sums = "W is the sum of the row's targets: a row of 0 has no z-loss"
    sure = {"x": confident(20), "targets": np.array([0])}
    no_weight = "W is 0 with the label's weight: no z-loss"
    yield case("index", quick=True, dtypes=("float32", "float64", "bfloat16"))
    yield case("soft", targets=P, quick=True)
    yield case("small", z_loss=1e-4)
    yield case("sum", reduction="sum")
    yield weighted("weighted", quick=True)
    yield weighted("weighted, soft", targets=P)
    yield weighted("weighted, soft, smoothed", targets=P, label_smoothing=0.1)
    yield case("ignored", reason="an ignored row has no z-loss", targets=np.where(KEEP, Y, -100))
    yield case("large lse", reason="lse² is of the logits as given, not shifted", x=X + 1000)
    yield case("negative lse", reason="the gradient has the sign of lse", x=X - 20)
    yield case("lse of 0", reason="m and log(1 + r) cancel in lse", x=at_0)
    yield case("confident", reason="the tail stays beside the term", **sure)
    yield case("masked", reason="lse is of the possible classes", x=MASKED)
    yield case("soft rows of other sums", reason=of_sums, targets=sums)
    yield case("class weight 0", reason=no_weight, weight=changed(np.ones(5), 3, 0.0), **NONE)
    yield case("normalizer", reason="the term is divided as the rest", normalizer=4.0)


def _softcap() -> Iterator[Case]:
    case = partial(made, "softcap", reason="the loss is of c·tanh(x/c)", x=X * 8, targets=Y)
    case = partial(case, softcap=30.0, dtypes=ONE, see=github("apple/ml-cross-entropy/issues/48"))
    masked = partial(case, reason="tanh(-inf) is -1", x=np.where(MASKED == -INF, -INF, X * 8))
    masked = partial(masked, see=github("unslothai/unsloth/pull/10616"))
    flat = "1 - tanh² is 0 from x/c = 10 on, where sech² still has every digit"
    infinite = changed(changed(X, 1, [1, INF, 2, 0, 1]), 4, [INF, 1, -INF, 0, INF])
    back = "tanh(-inf) is -1: a masked class comes back as -c"
    tail = {"x": confident(25), "targets": np.array([0])}
    yield case("30", quick=True, dtypes=("float32", "float64", "bfloat16"))
    yield case("30, far", reason="logits beyond the cap are not clipped: a slope is left", x=X * 40)
    yield case("8", softcap=8.0, **NONE)
    yield case("1", reason=flat, x=X * 4, softcap=1.0, **NONE)
    yield case("1, far", reason=flat, softcap=1.0, **NONE, quick=True)
    yield case("tail", reason="the tail survives the cap", **tail)
    yield case("soft", targets=P)
    yield case("smoothed and weighted", label_smoothing=0.1, weight=W)
    yield case("z-loss", reason="lse is of the capped logits", z_loss=0.5)
    yield masked("masked", reason=back, softcap=8.0, quick=True)
    yield masked("masked, soft, smoothed", targets=P_MASKED, label_smoothing=0.1)
    yield masked("one-hot, masked", x=MASKED, targets=np.eye(5)[Y])
    yield case("+inf", reason="a cap makes +inf c, with slope 0", x=infinite, **NONE)


def _upstream() -> Iterator[Case]:
    see = github("linkedin/Liger-Kernel/issues/968", "linkedin/Liger-Kernel/pull/1298")
    base = partial(made, "upstream", x=X, targets=Y, dtypes=WIDE, see=see)
    reason = "every row's gradient is multiplied by its own number, not by the first row's"
    rows = partial(base, reason=reason, **NONE, upstream=UP)
    one = partial(rows, dtypes=ONE)
    reason = "the upstream of a reduced loss is a number, which is not always 1"
    reduced = partial(base, reason=reason)
    yield rows("rows", quick=True, dtypes=DTYPES)
    yield rows("rows, the first 0 alone", upstream=np.array([0.0, 1, 1, 1, 1, 1]))
    yield rows("rows, soft", targets=P, to_targets=True, quick=True)
    yield one("rows, smoothed", label_smoothing=0.1)
    yield one("rows, weighted", weight=W, sample_weight=S)
    yield one("rows, z-loss", z_loss=0.5)
    yield one("rows, softcap", softcap=8.0)
    yield rows("rows, ignored", targets=np.where(KEEP, Y, -100))
    yield rows("rows, masked", x=MASKED)
    yield one("rows, absent NaN", x=changed(X, 0, np.nan), where=np.arange(6) > 0)
    yield reduced("mean, 2.5", upstream=2.5, quick=True)
    yield reduced("sum, -0.5", reduction="sum", upstream=-0.5)
    yield reduced("mean, 0", upstream=0.0)
    yield reduced("mean, a loss scale", upstream=65536.0)


def _soft_gradient() -> Iterator[Case]:
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
    nothing = "a class of weight 0 has no gradient at all"
    same = "where the loss is +inf the gradient is the same formula"
    on_masked = changed(P_MASKED, (1, 0), 0.25)
    yield mean("mean", quick=True, dtypes=("float32", "float64", "bfloat16"))
    yield total("sum", dtypes=WIDE)
    yield case("rows", **NONE)
    yield mean("weight", weight=W, quick=True)
    yield total("weight, sum", weight=W)
    yield mean("sample weight", sample_weight=S)
    yield case("where", where=KEEP)
    yield case("smoothed", label_smoothing=0.1)
    yield total("smoothed, sum", label_smoothing=0.1)
    yield total("smoothed away", label_smoothing=1.0)
    yield case("z-loss", z_loss=0.5, quick=True)
    yield total("z-loss, sum", z_loss=0.5)
    yield total("softcap", softcap=8.0)
    yield case("normalizer", reason="with a denominator of its own, no drift", normalizer=4.0)
    yield case("normalizer an array", normalizer=np.array(4.0), weight=W)
    yield total("everything, sum", **every)
    yield mean("everything, mean", **every)
    yield masked("masked", quick=True)
    yield masked("masked, sum", reduction="sum")
    yield masked("masked, smoothed", label_smoothing=0.1)
    yield masked("target on a masked class", reason=same, targets=on_masked, reduction="sum")
    yield total("infinite", targets=np.eye(5)[Y], x=changed(X, (2, Y[2]), np.inf))
    yield case("rows of other sums", "targets need not sum to 1: a row's weight does", targets=sums)
    yield mean("rows of other sums, smoothed", targets=sums, label_smoothing=0.1)
    yield case("class weight 0", reason=nothing, weight=changed(W, 2, 0.0))
    yield total("confident", targets=np.eye(10)[:1], x=confident(20))
    yield case("upstream", **NONE, upstream=UP)
    yield mean("another batch", targets=arrays.soft(6, 5, 5), reduction="mean", upstream=2.5)
