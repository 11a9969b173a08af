"""Rows that are not there, batches without rows, and rows without a choice."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from ..model import Array, Case
from .arrays import INF, KEEP, NAN, ONE, WIDE, P, S, W, X, Y, changed, soft
from .making import NONE, github, made, torch

GONE = ~KEEP
LEAK = "0·NaN is NaN: what stands in an absent row must reach neither loss nor gradient"
LEAKED = torch(11551)
SMOOTH = torch(73205)


def cases() -> list[Case]:
    """Return the families."""
    return [*_absent(), *_all_absent(), *_empty(), *_one_class()]


def _ways() -> dict[str, tuple[Array, dict[str, Any]]]:
    """Return by name: the labels and the options that leave rows 2 and 5 out."""
    return {
        "ignored": (np.where(GONE, -100, Y), {}),
        "where": (Y, {"where": KEEP}),
        "sample weight 0": (Y, {"sample_weight": np.where(GONE, 0.0, S)}),
    }


def _absent() -> Iterator[Case]:
    nan = np.where(GONE[:, None], NAN, X)
    case = partial(made, "absent", reason=LEAK, see=LEAKED, x=nan, targets=Y)
    wide = partial(case, dtypes=WIDE)
    one = partial(case, dtypes=ONE)
    for way, (labels, options) in _ways().items():
        finite = partial(case, targets=labels, dtypes=("float32", "float64", "float16"), **options)
        yield finite(f"{way}, NaN", quick=True)
        yield finite(f"{way}, inf", x=np.where(GONE[:, None], INF, X))
        yield finite(f"{way}, -inf", x=np.where(GONE[:, None], -INF, X), dtypes=WIDE)
        yield case(f"{way}, rows", targets=labels, **options, **NONE)
        given = partial(wide, reason="the uniform part counts absent rows, or leaks their NaN")
        yield given(f"{way}, smoothed", targets=labels, **options, label_smoothing=0.1, see=SMOOTH)
        yield one(f"{way}, z-loss", targets=labels, **options, z_loss=0.5)
        yield one(f"{way}, softcap", targets=labels, **options, softcap=8.0)
        if way != "ignored":
            hidden = np.where(GONE[:, None], NAN, P)
            yield wide(f"{way}, soft", targets=hidden, **options, weight=W, to_targets=True)
    exempt = partial(case, reason="an absent row's label is exempt from every check")
    exempt = partial(exempt, targets=np.where(GONE, [0, 0, 77, 0, 0, -5], Y))
    yield exempt("where, bad labels", x=X, where=KEEP)
    yield exempt("sample weight 0, bad labels", x=X, sample_weight=np.where(GONE, 0.0, S))
    yield exempt("where, bad labels, weighted", where=KEEP, weight=W, dtypes=ONE)
    hidden = np.where(GONE, NAN, S)
    infinite = np.where(GONE, INF, S)
    yield wide("where, NaN weights", where=KEEP, sample_weight=hidden)
    yield wide("where, inf weights", x=X, where=KEEP, sample_weight=infinite, **NONE)
    ignored = np.where(GONE, -100, Y)
    yield wide("ignored, NaN weights", targets=ignored, sample_weight=hidden)
    both = {"where": KEEP, "sample_weight": changed(S, 4, 0.0)}
    yield wide("all three ways", targets=changed(Y, 0, -100), **both)


def _all_absent() -> list[Case]:
    reason = "0/0: a batch in which nothing counts is 0 with gradient 0, not NaN"
    case = partial(made, "all absent", reason=reason, x=X)
    case = partial(case, see=torch(70348, 116349) + github("NVIDIA-NeMo/Automodel/issues/3796"))
    ignored = partial(case, targets=np.full(6, -100))
    wide = partial(case, targets=Y, dtypes=WIDE)
    nowhere = partial(wide, where=np.zeros(6, bool))
    zero = partial(wide, sample_weight=np.zeros(6))
    nan = np.full((6, 5), NAN)
    some = changed(np.ones(5), 1, 0.0)
    return [
        ignored("ignored", quick=True),
        ignored("ignored, sum", reduction="sum"),
        ignored("ignored, rows", **NONE),
        ignored("ignored, NaN", x=nan),
        ignored("ignored, smoothed", label_smoothing=0.1, dtypes=WIDE),
        ignored("ignored, upstream", upstream=2.5),
        nowhere("where"),
        nowhere("where, NaN", x=nan),
        nowhere("where, soft", targets=P, x=nan, to_targets=True),
        zero("sample weight 0", quick=True),
        zero("sample weight 0, soft", targets=P, to_targets=True),
        wide("class weight 0", targets=np.full(6, 1), weight=some),
        wide("soft rows of 0", targets=np.zeros((6, 5))),
        ignored("with a normalizer", normalizer=4.0, dtypes=WIDE),
    ]


def _empty() -> list[Case]:
    reason = "the mean over no rows is 0, where a division by the count is NaN or an error"
    case = partial(made, "empty", reason=reason, x=np.zeros((0, 5)), targets=np.zeros(0, np.int64))
    case = partial(case, see=torch(50224, 15870))
    two = {"x": np.zeros((2, 0, 5)), "targets": np.zeros((2, 0), np.int64), **NONE}
    middle = {"x": np.zeros((0, 5, 3)), "targets": np.zeros((0, 3), np.int64), "axis": 1}
    return [
        case("mean", quick=True),
        case("sum", reduction="sum"),
        case("rows", **NONE),
        case("soft", targets=np.zeros((0, 5)), to_targets=True, dtypes=WIDE),
        case("weighted", weight=W, sample_weight=np.zeros(0), dtypes=ONE),
        case("two row axes", **two, dtypes=WIDE),
        case("class axis 1", **middle, dtypes=WIDE),
    ]


def _one_class() -> list[Case]:
    x = X[:, :1]
    reason = "with one class p = 1: the loss and its gradient are exactly 0"
    case = partial(made, "one class", reason=reason, x=x)
    case = partial(case, targets=np.zeros(6, np.int64))
    ends = np.concatenate([x[:4], [[INF]], [[-INF]]])
    lse = "lse is the logit itself"
    whole = "+inf has the whole probability, -inf none"
    return [
        case("index", quick=True),
        case("rows", **NONE),
        case("large", x=x * 1e4, **NONE),
        case("infinite", x=ends, **NONE, reason=whole),
        case("smoothed", label_smoothing=0.1, dtypes=WIDE),
        case("soft", targets=soft(6, 5)[:, :1], dtypes=WIDE),
        case("z-loss", reason=lse, z_loss=0.5, **NONE, dtypes=WIDE),
        case("softcap", softcap=8.0, dtypes=ONE),
    ]
