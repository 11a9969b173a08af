"""Classes and rows that are not there, batches without rows, and rows without a choice."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from ..model import Case
from . import arrays
from .arrays import INF, KEEP, MASK, MASKED, NAN, ONE, P_MASKED, WIDE, P, S, W, X, Y, changed
from .making import NONE, github, made, torch

GONE = ~KEEP
LEAK = "0·NaN is NaN: what stands in an absent row must reach neither loss nor gradient"
LEAKED = torch(11551)
SMOOTH = torch(73205)
SMOOTHED: dict[str, Any] = {"label_smoothing": 0.1}
PYTEXT = github("facebookresearch/pytext/pull/1698")
BLOCKS = github("flashinfer-ai/flashinfer/pull/4401")


def cases() -> list[Case]:
    """Return the families."""
    return [*_masks(), *_blocks(), *_absent(), *_all_absent(), *_empty(), *_one_class()]


def _masks() -> Iterator[Case]:
    case = partial(made, "masks", x=MASKED, targets=Y)
    plain = partial(case, reason="-inf - max is fine, -inf · 0 is not")
    yield plain("index", quick=True)
    yield plain("index, rows", **NONE)
    zero = partial(case, see=github("google-deepmind/optax/issues/896"))
    zero = partial(zero, reason="0·inf: a masked class of target 0 is absent, not NaN")
    yield zero("soft", targets=P_MASKED, quick=True, dtypes=WIDE)
    yield zero("one-hot", targets=np.eye(5)[Y], **NONE)
    reason = "smoothing spreads over the possible classes only, else every masked row is +inf"
    smoothed = partial(case, reason=reason, **SMOOTHED, see=PYTEXT, dtypes=WIDE)
    yield smoothed("smoothed", quick=True)
    yield smoothed("smoothed, rows", **NONE)
    yield smoothed("soft, smoothed", targets=P_MASKED)
    weighted = partial(smoothed, dtypes=ONE, weight=W, sample_weight=S)
    yield weighted("weighted, smoothed")
    yield weighted("weighted, soft, smoothed", targets=P_MASKED)
    on_masked = "a target on a masked class costs +inf, and only in its own row"
    away = partial(case, reason=on_masked, targets=changed(Y, 1, 0))
    yield away("the label masked", **NONE, quick=True)
    yield away("the label masked, mean")
    yield away("the label masked, smoothed", dtypes=WIDE, **SMOOTHED, **NONE)
    soft_away = changed(P_MASKED, (1, 0), 0.25)
    yield away("soft on a masked class", targets=soft_away, **NONE, dtypes=WIDE)
    none_left = "a present row with no possible class is NaN, and no other row is"
    empty = partial(case, reason=none_left, x=changed(MASKED, 3, -INF))
    yield empty("a row all masked", **NONE, quick=True)
    yield empty("a row all masked, mean")
    yield empty("a row all masked, soft", targets=P_MASKED, **NONE, dtypes=WIDE)
    yield empty("a row all masked, smoothed", **SMOOTHED, **NONE, dtypes=WIDE)
    certain = "loss and gradient of a certain row are exactly 0"
    yield case("one class left", certain, x=changed(MASKED, (1, [0, 1, 2, 4]), -INF), **NONE)
    yield case("z-loss", "lse is of the possible classes", z_loss=0.5, dtypes=ONE)
    reason = "a finite sentinel for a mask: rows below it turn uniform or NaN"
    yield case("finite and low", reason, x=np.where(MASK, -INF, X - 3e4), see=BLOCKS)


def _blocks() -> Iterator[Case]:
    """Rows that begin with masked classes: an online softmax meets a piece of -inf first."""
    reason = "the first block's maximum is -inf: exp(-inf - -inf) is NaN in an online softmax"
    x = arrays.logits(2, 300)
    y = np.array([299, 270])
    soft = np.zeros((2, 300))
    soft[:, [258, 270, 299]] = 0.25, 0.5, 0.25

    def case(label: str, first: int, x: Any = x, targets: Any = y, **rest: Any) -> Case:
        masked = changed(x, (slice(None), slice(first)), -INF)
        return made("masks", label, reason, x=masked, targets=targets, see=BLOCKS, **rest)

    there, many = "first 256 of 300, the label there", arrays.logits(2, 1100)
    yield case("first 256 of 300", 256, quick=True)
    yield case("first 128 of 300", 128, **NONE)
    yield case("first 299 of 300", 299, targets=np.array([299, 299]))
    yield case("first 256 of 300, smoothed", 256, **SMOOTHED, dtypes=WIDE)
    yield case("first 256 of 300, soft", 256, targets=soft, dtypes=WIDE)
    yield case("first 1024 of 1100", 1024, many, np.array([1024, 1099]), dtypes=WIDE)
    yield case(there, 256, targets=np.array([299, 5]), **NONE)
    yield case("all 300", 300, **NONE)


def _absent() -> Iterator[Case]:
    nan = np.where(GONE[:, None], NAN, X)
    case = partial(made, "absent", reason=LEAK, see=LEAKED, x=nan, targets=Y)
    wide = partial(case, dtypes=WIDE)
    one = partial(case, dtypes=ONE)
    # By name: the labels and the options that leave rows 2 and 5 out.
    ways: dict[str, Any] = {"ignored": (np.where(GONE, -100, Y), {}), "where": (Y, {"where": KEEP})}
    ways["sample weight 0"] = (Y, {"sample_weight": np.where(GONE, 0.0, S)})
    for way, (labels, options) in ways.items():
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
    yield wide("where, NaN weights", where=KEEP, sample_weight=hidden)
    yield wide("where, inf weights", x=X, where=KEEP, sample_weight=np.where(GONE, INF, S), **NONE)
    yield wide("ignored, NaN weights", targets=np.where(GONE, -100, Y), sample_weight=hidden)
    both = {"where": KEEP, "sample_weight": changed(S, 4, 0.0)}
    yield wide("all three ways", targets=changed(Y, 0, -100), **both)


def _all_absent() -> Iterator[Case]:
    reason = "0/0: a batch in which nothing counts is 0 with gradient 0, not NaN"
    case = partial(made, "all absent", reason=reason, x=X)
    case = partial(case, see=torch(70348, 116349) + github("NVIDIA-NeMo/Automodel/issues/3796"))
    ignored = partial(case, targets=np.full(6, -100))
    wide = partial(case, targets=Y, dtypes=WIDE)
    nowhere = partial(wide, where=np.zeros(6, bool))
    zero = partial(wide, sample_weight=np.zeros(6))
    nan = np.full((6, 5), NAN)
    yield ignored("ignored", quick=True)
    yield ignored("ignored, sum", reduction="sum")
    yield ignored("ignored, rows", **NONE)
    yield ignored("ignored, NaN", x=nan)
    yield ignored("ignored, smoothed", label_smoothing=0.1, dtypes=WIDE)
    yield ignored("ignored, upstream", upstream=2.5)
    yield nowhere("where")
    yield nowhere("where, NaN", x=nan)
    yield nowhere("where, soft", targets=P, x=nan, to_targets=True)
    yield zero("sample weight 0", quick=True)
    yield zero("sample weight 0, soft", targets=P, to_targets=True)
    yield wide("class weight 0", targets=np.full(6, 1), weight=changed(np.ones(5), 1, 0.0))
    yield wide("soft rows of 0", targets=np.zeros((6, 5)))
    yield ignored("with a normalizer", normalizer=4.0, dtypes=WIDE)


def _empty() -> Iterator[Case]:
    reason = "the mean over no rows is 0, where a division by the count is NaN or an error"
    case = partial(made, "empty", reason=reason, x=np.zeros((0, 5)), targets=np.zeros(0, np.int64))
    case = partial(case, see=torch(50224, 15870))
    two = {"x": np.zeros((2, 0, 5)), "targets": np.zeros((2, 0), np.int64), **NONE}
    middle = {"x": np.zeros((0, 5, 3)), "targets": np.zeros((0, 3), np.int64), "axis": 1}
    yield case("mean", quick=True)
    yield case("sum", reduction="sum")
    yield case("rows", **NONE)
    yield case("soft", targets=np.zeros((0, 5)), to_targets=True, dtypes=WIDE)
    yield case("weighted", weight=W, sample_weight=np.zeros(0), dtypes=ONE)
    yield case("two row axes", **two, dtypes=WIDE)
    yield case("class axis 1", **middle, dtypes=WIDE)


def _one_class() -> Iterator[Case]:
    x = X[:, :1]
    reason = "with one class p = 1: the loss and its gradient are exactly 0"
    case = partial(made, "one class", reason=reason, x=x, targets=np.zeros(6, np.int64))
    whole = "+inf has the whole probability, -inf none"
    yield case("index", quick=True)
    yield case("rows", **NONE)
    yield case("large", x=x * 1e4, **NONE)
    yield case("infinite", x=np.concatenate([x[:4], [[INF]], [[-INF]]]), **NONE, reason=whole)
    yield case("smoothed", label_smoothing=0.1, dtypes=WIDE)
    yield case("soft", targets=arrays.soft(6, 5)[:, :1], dtypes=WIDE)
    yield case("z-loss", reason="lse is the logit itself", z_loss=0.5, **NONE, dtypes=WIDE)
    yield case("softcap", softcap=8.0, dtypes=ONE)
