"""Targets of a few classes a row: they are the same soft targets written out for all classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from ..model import DTYPES, Case
from ..top_k import IGNORED, TOP_K, pack
from .arrays import EVERY, INF, MASKED, NAN, ONE, WIDE, X, changed, confident
from .making import NONE, made

UPSTREAM = np.array([0.0, 1.0, -2.5, 0.125, 64.0, -0.75])
# Three of five classes a row; in 64ths. Row 3 adds up to 1, row 5 to more, row 4 has a zero.
INDICES = np.array([[0, 3, 1], [3, 4, 0], [1, 0, 2], [4, 2, 3], [2, 1, 0], [2, 3, 4]])
PROBS = (
    np.array([[32, 16, 8], [40, 8, 4], [16, 16, 24], [32, 16, 16], [48, 0, 8], [32, 32, 16]]) / 64
)
T = pack(INDICES, PROBS)
TWICE = pack(np.where(INDICES[:, :1] == INDICES, INDICES, INDICES[:, 1:2]), PROBS)
EMPTY = pack(changed(changed(INDICES, (1, 1), IGNORED), 4, IGNORED), changed(PROBS, (1, 1), NAN))
# The first listed class of each row and the others that are possible; the rest is masked.
POSSIBLE = np.argsort(MASKED == -INF, axis=-1, kind="stable")[:, :2]


def cases() -> Iterator[Case]:
    """Yield the family."""
    case = partial(made, "top k", loss=TOP_K, x=X, targets=T, to_targets=True)
    wide = partial(case, dtypes=WIDE)
    one = partial(case, dtypes=ONE)
    reason = "the mean divides by the sum of what is listed, which need not be 1 a row"
    yield case("mean", reason, quick=True, upstream=-2.0)
    yield wide("rows", "each row has its own upstream", **NONE, upstream=UPSTREAM)
    reason = "what the list lacks to 1 is spread over the other classes, and not over all"
    yield case("spread", reason, rest="uniform", **NONE, quick=True)
    yield wide("spread, mean", "the row weight has the rest in it", rest="uniform")
    yield case("a class twice", "the last of two entries wins", targets=TWICE, quick=True)
    reason = "a class that is listed twice is counted twice among the listed ones"
    yield wide("a class twice, spread", reason, targets=TWICE, rest="uniform", **NONE)
    for rest in ("zero", "uniform"):
        yield from _each(partial(one, rest=rest), rest)
    reason = "a denominator of its own has no gradient"
    yield one("a normalizer", reason, normalizer=4.0, rest="uniform")
    reason = "with no other class there is no rest, and no division by their number"
    given = partial(one, targets=pack(np.tile(np.arange(5), (6, 1)), np.full((6, 5), 0.125)))
    yield given("every class listed", reason, rest="uniform")
    reason = "where the loss is +inf the gradient is the same formula"
    masked = changed(X, (2, 1), -INF)
    yield one("listed on a masked class", reason, x=masked, reduction="sum")
    yield wide("rows alone", "a row's bits depend on the batch around it", **NONE, split=True)
    infinite = changed(X, (0, 3), INF)
    yield one("infinite logits", "the +inf logits share the whole", x=infinite)


def _each(case: Callable[..., Case], rest: str) -> Iterator[Case]:
    """Yield what is asked wherever the rest of a row goes."""
    reason = "a padded slot's index wraps to the last class, or its probability counts"
    given = partial(case, targets=EMPTY)
    yield given(f"empty slots, {rest}", reason, z_loss=0.125, dtypes=WIDE, quick=rest == "zero")
    nan = changed(X, 4, NAN)
    reason = "a row of empty slots is read"
    yield case(f"an absent row of NaN, {rest}", reason, x=nan, targets=EMPTY)
    for name in ("weight", "label_smoothing", "z_loss"):
        yield case(f"{name}, {rest}", "each option is that of soft targets", **{name: EVERY[name]})
    yield case(f"all options, {rest}", "each is that of soft targets, together too", **EVERY)
    reason = "with all smoothing the sum of the list is what is left of it"
    yield case(f"smoothed away, {rest}", reason, label_smoothing=1.0, reduction="sum")
    reason = "a masked class gets a share of the rest, and the loss is infinite"
    given = partial(case, x=MASKED, targets=pack(POSSIBLE, PROBS[:, :2] / 2))
    yield given(f"masked, {rest}", reason, label_smoothing=0.125, dtypes=WIDE)
    reason = "lse - z loses 4e-8, which is there in the logits"
    given = partial(case, x=confident(17.0, classes=5), targets=pack([[0]], np.array([[1.0]])))
    yield given(f"one row ahead by 17, {rest}", reason, **NONE, dtypes=DTYPES)
