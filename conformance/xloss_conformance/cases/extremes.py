"""Logits far apart, far from 0, infinite, NaN or equal at the maximum; many rows, many classes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from ..model import Array, Case
from .arrays import INF, MASKED, NAN, ONE, WIDE, P, S, X, Y, changed, confident, soft
from .making import NONE, github, made, torch

GAPS = (5, 8, 10, 12, 14, 16, 17, 18, 20, 25, 30, 36, 40, 50, 60, 70, 80, 82)
LOST = "log(1 + r) is 0 in float32 once r < 2^-24: the loss and p - 1 lose every digit"
SEE = github("scipy/scipy/issues/18295")
ROWS = 70_001  # more than float16 can count, and float16 and bfloat16 can sum
CLASSES = 128_256
LARGEST = {"float16": 65504.0, "bfloat16": 3.38e38, "float32": 3.40e38, "float64": 1e308}


def cases() -> list[Case]:
    """Return the families."""
    logits = [*_tail(), *_offsets(), *_infinities(), *_ties()]
    return [*logits, *_sixteen_bits(), *_vocabulary(), *_size()]


def _tail() -> Iterator[Case]:
    """The confident tail: the true class far ahead, where 1 + small loses the small."""
    case = partial(made, "tail", reason=LOST, see=SEE)
    zero = np.array([0])
    for gap in GAPS:
        given = {"gap": float(gap), "quick": gap in (5, 12, 17, 40, 80)}
        yield case(f"gap {gap}", x=confident(gap), targets=zero, **given)
    hot = partial(case, reason="a one-hot row is its label: the same tail survives")
    for gap in (17, 40, 80):
        yield hot(f"gap {gap}, one-hot", x=confident(gap), targets=np.eye(10)[zero])
    # Row i is confident of its own label Y[i].
    rows = np.concatenate([confident(gap, classes=5) for gap in (9, 17, 25, 40, 60, 80)])
    turned = np.stack([np.roll(row, label) for row, label in zip(rows, Y, strict=True)])
    six = partial(case, x=turned, targets=Y, **NONE)
    wrong = partial(six, reason="the loss is the gap: it must not be clipped", see=())
    yield six("six gaps")
    yield six("six gaps, weighted", sample_weight=S)
    yield wrong("confident and wrong", targets=(Y + 1) % 5)


def _offsets() -> Iterator[Case]:
    reason = "exp overflows, or lse - z loses the gap, unless the maximum is taken off first"
    see = torch(11752) + github("ml-explore/mlx/pull/4188")
    case = partial(made, "offsets", targets=Y)
    for offset in (88, 1000, -1000, 1e4, -6e4, 1e6, 1e8, 1e30, -3e38):
        dtypes = tuple(d for d, most in LARGEST.items() if abs(offset) + 16 < most)
        given = {"x": X + offset, "see": see, "dtypes": dtypes, "quick": offset in (1000, 1e8)}
        yield case(f"{offset:g}", reason, **given)
    apart = np.array([[3e38, -3e38, 0, 1, 2], [0, 0, -3e38, 1, 0]])
    reason = "the difference of two finite logits overflows, and inf - inf"
    far = partial(case, x=np.concatenate([apart, X[2:]]), targets=np.array([1, 2, *Y[2:]]))
    yield far("both ends", reason, **NONE, dtypes=WIDE)


def _infinities() -> Iterator[Case]:
    limit = "inf - inf is NaN: +inf logits share the whole probability, the limit"
    see = torch(6864) + github("jax-ml/jax/issues/21495")

    def mean(label: str, values: Any, target: int | Array, /, **rest: Any) -> Case:
        base = Y if isinstance(target, int) else np.eye(5)[Y]
        given = {"reason": limit, "see": see, **rest}
        x, targets = changed(X, 2, values), changed(base, 2, target)
        return made("infinities", label, x=x, targets=targets, **given)

    row = partial(mean, **NONE)
    lost = "a NaN logit makes its own row NaN, no other row's loss or gradient"
    nan = partial(row, reason=lost, see=())
    two = np.array([0, 0.25, 0, 0.75, 0])
    nan_mean = partial(mean, reason="the mean over a NaN row is NaN", see=())
    yield row("one, the label on it", [1, INF, 2, 0, 1], 1, quick=True)
    yield row("one, the label elsewhere", [1, INF, 2, 0, 1], 3)
    yield row("two, the label on one", [1, INF, 2, INF, 1], 3, quick=True)
    yield row("two, the label elsewhere", [1, INF, 2, INF, 1], 2)
    yield row("all", [INF] * 5, 0)
    yield row("with masked classes", [-INF, INF, 2, -INF, INF], 4)
    yield row("the label masked", [-INF, INF, 2, 1, 0], 0)
    yield mean("mean, the label on it", [1, INF, 2, 0, 1], 1)
    yield mean("mean, the label elsewhere", [1, INF, 2, 0, 1], 3)
    yield row("soft, on two of two", [1, INF, 2, INF, 1], two)
    yield row("soft, on one of two", [1, INF, 2, 0, 1], two)
    yield row("smoothed", [1, INF, 2, 0, 1], 1, label_smoothing=0.1)
    yield nan("NaN", [1, NAN, 2, 0, 1], 3, quick=True)
    yield nan("NaN at the label", [1, NAN, 2, 0, 1], 1)
    yield nan("NaN beside inf", [1, NAN, INF, -INF, 1], 2)
    yield nan("NaN under soft targets of 0", [1, NAN, 2, 0, 1], changed(two, [1, 2], [0, 0.25]))
    yield nan("NaN, smoothed", [1, NAN, 2, 0, 1], 3, label_smoothing=0.1)
    yield nan_mean("NaN, mean", [1, NAN, 2, 0, 1], 3)


def _ties() -> Iterator[Case]:
    top = X.max(axis=1)
    two = X.copy()
    two[np.arange(6), Y] = two[np.arange(6), (Y + 2) % 5] = top + 1
    reason = "autodiff through max shares the gradient among the tied, or gives it to one"
    case = partial(made, "ties", reason=reason, x=two, targets=Y)
    case = partial(case, see=github("tensorflow/tensorflow/issues/127232"))
    zeros = changed(np.zeros((6, 5)), (slice(None), 2), -0.0)
    level = partial(case, x=np.broadcast_to(top[:, None], (6, 5)))
    far = np.where(two == two.max(1, keepdims=True), 40.0, two)
    yield case("two, the label one of them", quick=True)
    yield case("two, the label elsewhere", targets=(Y + 1) % 5)
    yield case("three", x=changed(two, (slice(None), 0), top + 1), **NONE)
    yield level("all", quick=True)
    yield case("0 and -0", "-0.0 equals 0.0: a maximum by bits finds one of them", x=zeros, see=())
    yield case("soft", targets=P, dtypes=WIDE)
    yield case("masked", x=np.where(MASKED == -INF, -INF, 2.5))
    yield case("far above the rest", x=far, **NONE)
    yield level("all, smoothed", label_smoothing=0.1, dtypes=WIDE)
    yield level("all, soft", targets=soft(6, 5, 3), dtypes=WIDE)


def _sixteen_bits() -> Iterator[Case]:
    # Seven rows, again and again: logits that every dtype holds.
    x = np.array(
        [[0, 1, 2], [3, -1, 0.5], [-2, -2, 4], [8, 0, 1], [1, 1, 1], [0, -8, 0], [6, 5, 4]]
    )
    y = np.array([0, 1, 2, 1, 0, 0, 2])
    x, y = np.resize(x, (ROWS, 3)), np.resize(y, ROWS)
    reason = "a sum in 16 bits stops at 256 or 2048 and overflows at 65504; so does a count"
    case = partial(made, "sixteen bits", reason=reason, x=x, targets=y)
    case = partial(case, see=torch(85791) + github("pytorch/executorch/pull/20090"))
    case = partial(case, dtypes=("float16", "bfloat16", "float32"))
    few = partial(case, x=x[:6] / 3, targets=np.resize(y, 6), reduction="none")
    yield case("mean", quick=True)
    yield case("sum", reduction="sum")
    yield case("mean, ignored", targets=np.where(np.arange(ROWS) % 3 == 0, -100, y))
    yield case("mean, weighted", sample_weight=np.resize([0.5, 1, 2, 4], ROWS))
    yield few("rows")
    yield few("upstream", upstream=np.array([1, -2, 0.25, 0, 3, 1024]))


def _vocabulary() -> Iterator[Case]:
    x = np.resize([-1, -8, -3, -5.5, -2, -30], (2, CLASSES))
    x[1] = np.roll(x[1], 1)
    x[0, 100_000] = 14.0
    x[1, :256] = -INF
    y = np.array([100_000, CLASSES - 1])
    reason = "a vocabulary takes more than one block: the pieces of a row are merged"
    case = partial(made, "vocabulary", reason=reason, see=github("unslothai/unsloth/issues/91"))
    yield case("128,256 classes", x=x, targets=y, quick=True, dtypes=("float32", "bfloat16"))
    yield case("smoothed", x=x[:1], targets=np.array([5]), label_smoothing=0.1, dtypes=ONE)


def _size() -> list[Case]:
    # A tile whose size divides no power of 2: an index that wraps meets another element.
    rng = np.random.default_rng(31)
    x = np.round(rng.standard_normal((7, 293)) * 8) / 2
    reason = "beyond 2^31 elements a 32-bit index wraps, and reads or counts another row"
    case = partial(made, "size", reason=reason, x=x, targets=rng.integers(0, 293, 7))
    case = partial(case, see=torch(111484) + github("PaddlePaddle/Paddle/pull/30590"))
    case = partial(case, value_only=True, on_demand=True, dtypes=("float16", "float32"))
    case = partial(case, tile=2**31 // x.size + 1)
    return [case(f"2^31 elements, {how}", reduction=how) for how in ("mean", "sum")]
