"""Losses of several arrays or results: matrix products, statistics of rows, lists of classes.

linear_cross_entropy: what may leak through the sums around the rows. token_stats and
linear_token_stats: what a training log says of each row beside its loss. Targets of a few classes a
row: they are the same soft targets written out for all classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from .. import packed, top_k
from ..model import DTYPES, Array, Case
from ..top_k import IGNORED, TOP_K
from . import arrays
from .arrays import EVERY, INF, KEEP, MASKED, NAN, ONE, WIDE, P, S, W, X, Y, changed, confident
from .given import UPSTREAM
from .making import NONE, made, torch

# Quarters and eighths, few and small: every logit is exact in float32 and in any order of sums.
RNG = np.random.default_rng([11, 5])
FEATURES = RNG.integers(-8, 9, (6, 4)) / 4
WEIGHT = RNG.integers(-16, 17, (5, 4)) / 8
BIAS = RNG.integers(-8, 9, 5) / 4
PACKED = packed.pack(FEATURES, WEIGHT, BIAS)
LINEAR_ALL = {"class_weight": W, **{k: v for k, v in EVERY.items() if k != "weight"}}

SLOTS_UP = np.array([0.0, 1.0, -2.5, 0.125, 64.0, -0.75])
# Three of five classes a row; in 64ths. Row 3 adds up to 1, row 5 to more, row 4 has a zero.
INDICES = np.array([[0, 3, 1], [3, 4, 0], [1, 0, 2], [4, 2, 3], [2, 1, 0], [2, 3, 4]])
PROBS = (
    np.array([[32, 16, 8], [40, 8, 4], [16, 16, 24], [32, 16, 16], [48, 0, 8], [32, 32, 16]]) / 64
)
LISTED = top_k.pack(INDICES, PROBS)
TWICE = top_k.pack(np.where(INDICES[:, :1] == INDICES, INDICES, INDICES[:, 1:2]), PROBS)
EMPTY = top_k.pack(
    changed(changed(INDICES, (1, 1), IGNORED), 4, IGNORED), changed(PROBS, (1, 1), NAN)
)
# The first listed class of each row and the others that are possible; the rest is masked.
POSSIBLE = np.argsort(MASKED == -INF, axis=-1, kind="stable")[:, :2]


def cases() -> list[Case]:
    """Return the families."""
    return [*_linear(), *_tokens(), *_linear_tokens(), *_top_k()]


def put(*rows: int, to: float) -> Array:
    """Return the arguments with those rows of features filled."""
    return changed(PACKED, (list(rows), slice(0, 4)), to)


def _linear() -> Iterator[Case]:
    case = partial(made, "linear", loss="linear_cross_entropy", x=PACKED, targets=Y)
    wide = partial(case, dtypes=WIDE)
    rows = partial(wide, **NONE, upstream=UPSTREAM)
    one = partial(case, dtypes=ONE)
    reason = "the gradients of the forward pass miss the denominator or the upstream"
    yield case("mean", reason, upstream=-2.0, quick=True)
    reason = "each row has its own upstream, and the logits are computed again"
    yield rows("rows", reason, quick=True)
    reason = "the weight's gradient is the last block's, not their sum"
    yield case("blocks of one row", reason, reduction="sum", block_rows=1, quick=True)
    yield case("blocks of four rows", "the last block is not full", block_rows=4)
    soft = partial(wide, targets=P, to_targets=True)
    yield soft("soft", "gradient to soft targets, and to their denominator")
    yield case("all options", "each is that of cross_entropy", **LINEAR_ALL)
    yield soft("soft, all options", "the same of probabilities", **LINEAR_ALL)
    reason = "0·NaN in the product over rows fills the weight's gradient"
    given = partial(case, x=put(1, 4, to=NAN), targets=np.array([0, -100, 1, 4, -100, 2]))
    yield given("ignored rows of NaN", reason, block_rows=4, quick=True, see=torch(20406))
    reason = "where and a sample weight of 0 leave rows out likewise"
    yield rows("absent rows of inf", reason, x=put(2, to=INF), where=KEEP)
    reason = "the mean over no row is 0, with gradient 0"
    yield one("all ignored", reason, x=put(0, to=NAN), targets=np.full(6, -100))
    reason = "all labels of class weight 0: nothing, though a row be NaN"
    given = partial(wide, x=put(3, to=NAN), targets=np.full(6, 2))
    yield given("no row weighs", reason, class_weight=np.array([1.0, 1, 0, 1, 1]))
    reason = "a logit of -inf has no share, and gradient 0"
    given = partial(wide, x=changed(PACKED, (6, 4), -INF), targets=np.array([1, 3, 1, 4, 2, 2]))
    yield given("a class masked by its bias", reason, label_smoothing=0.125)
    bad = np.array([0, 3, -1, 4, 7, 2])
    yield rows("bad labels", "a label of -1 wraps to the last class", targets=bad)
    ahead = packed.pack(np.array([[4.0, 1.0]]), np.array([[4.0, 1.0], [0.0, 0.0]]), np.zeros(2))
    reason = "lse - z loses 4e-8, which is there in the logits"
    yield case("one row ahead by 17", reason, x=ahead, targets=np.array([0]), quick=True)
    many = np.repeat(np.array([[256.0, *[1.0] * 131]]), 600, axis=0)
    ones = np.concatenate([np.ones((1, 132)), np.zeros((1, 132))])
    ones[1, :66] = 1.0
    reason = "16 bits hold neither 256 + 1 nor a sum of 1200ths: products are summed in 32"
    case = partial(
        case, targets=np.zeros(600, np.int64), x=packed.pack(many, ones, np.array([0.0, 66.0]))
    )
    yield case("sums of 600 rows and 132 features", reason, quick=True)
    yield one("no rows", "a matrix product over nothing is 0", x=PACKED[6:], targets=Y[:0])
    for layout in ("F", "readonly"):
        reason = "a matrix in another order is read in the wrong one"
        yield one(f"layout {layout}", reason, layout=layout)
    reason = "a wrong argument broadcasts, and a number comes out"
    wrong = partial(one, reason=reason, error=ValueError)
    yield wrong("error: class_weight", class_weight=np.ones(4), names="class_weight")
    yield wrong("error: block_rows", block_rows=0, names="block_rows")


def _tokens() -> Iterator[Case]:
    plain = partial(made, "tokens", loss="token_stats", x=X, targets=Y, dtypes=WIDE)
    plain = partial(plain, upstream=UPSTREAM)
    case = partial(plain, rank=True)
    reason = "every field of every row; loss alone has a gradient"
    yield case("rows", reason, dtypes=DTYPES, split=True, quick=True)
    yield plain("without the rank", "correct is not made of a rank then")
    reason = "the class to predict is the first of the largest probability"
    yield case("soft targets", reason, targets=P, to_targets=True)
    tied = np.array([[1.0, 2.0, 2.0, 0.0, 2.0]] * 6)
    some = np.array([1, 2, 4, 0, 3, 1])
    reason = "of equal logits the first is the top class, and the others are behind it"
    yield case("ties", reason, x=tied, targets=some, dtypes=DTYPES, quick=True)
    reason = "accuracy counts every tie as right where it compares with the maximum"
    yield plain("ties without the rank", reason, x=tied, targets=some, quick=True)
    yield case("ties of soft targets", "the first of the largest", x=tied, targets=P * 0 + 0.2)
    far = np.concatenate([confident(gap, classes=5) for gap in (5, 12, 17, 30, 50, 80)])
    reason = "lse - Σ p z is 0 for an entropy of 1e-6, and 1 - max_prob beside it"
    yield case("tail", reason, x=far, targets=Y * 0, quick=True, dtypes=DTYPES)
    yield case("not the top class", "ranks of 1 to 4", x=far, targets=np.array([1, 2, 3, 4, 1, 0]))
    reason = "Σ p z - lse cancels where the logits are large"
    yield case("offset", reason, x=X + 3000.0, z_loss=2.0**-10)
    yield case("masked classes", "0·log 0 in the entropy", x=MASKED)
    at_mask = np.isinf(MASKED).argmax(-1)
    yield case("a masked label", "+inf, and the last rank", x=MASKED, targets=at_mask)
    twice = changed(changed(X, (slice(None), 1), INF), (slice(None), 3), INF)
    yield case("two +inf logits", "inf - inf: they share the probability", x=twice)
    reason = "lse is -inf, the others NaN, and nothing is correct"
    yield case("no possible class", reason, x=changed(X, (2, slice(None)), -INF))
    reason = "NaN in that row and in no other; a rank cannot be NaN"
    yield case("NaN", reason, x=changed(X, (1, 2), NAN), z_loss=0.5)
    reason = "all of them 0, nothing correct, and behind every class"
    given = partial(case, x=changed(X, ([1, 2, 5], [0, 3, 4]), NAN), targets=changed(Y, 1, -100))
    given = partial(given, where=KEEP, sample_weight=np.array([1.0, 2, 0.5, 1, 3, 0]), z_loss=0.5)
    yield given("absent rows of NaN", reason, dtypes=DTYPES, quick=True)
    reason = "a label of -1 wraps to the last class, and is correct there"
    yield case("bad labels", reason, targets=changed(changed(Y, 2, -1), 4, 7), z_loss=0.25)
    light = {"z_loss": 0.25, "weight": changed(W, 3, 0.0), "sample_weight": S}
    reason = "the term has the row's weight, which a class weight makes 0"
    yield case("z-loss under weights", reason, **light)
    yield case("all options", "each is that of cross_entropy", **EVERY, quick=True)
    yield case("soft, all options", "the same of probabilities", targets=P, **EVERY)
    reason = "capped logits tie where the logits do not: the order is theirs"
    given = partial(case, x=np.array([[40.0, 41.0, 39.0, -3.0, 0.0]] * 6), softcap=1.0)
    yield given("a softcap that saturates", reason, targets=np.array([0, 1, 2, 3, 4, 1]))
    yield case("class axis 0", "the class axis is the caller's", x=X.T, axis=0)
    for layout in ("F", "strided", "readonly"):
        reason = "memory in another order than rows"
        yield case(f"layout {layout}", reason, layout=layout, split=layout == "F")
    for classes in (97, 300, 4500):
        x = arrays.logits(3, classes)
        top = np.argmax(x, axis=-1)
        some = np.array([top[0], classes - 1, int(arrays.labels(1, classes)[0])])
        reason = "a row is read in chunks: a rank or a sum of the last one alone"
        given = partial(case, x=x, targets=some, upstream=UPSTREAM[:3], split=True)
        yield given(f"{classes} classes", reason)
    reason = "the first of them is in another chunk"
    given = partial(case, x=changed(arrays.logits(2, 4500), (slice(None), [7, 4200]), 20.0))
    yield given("ties across chunks", reason, targets=np.array([4200, 7]), upstream=UPSTREAM[:2])
    yield case("one class", "log 1", x=X[:, :1], targets=Y * 0, dtypes=ONE)
    one = partial(plain, upstream=1.0, dtypes=ONE)
    yield one("no rows", "nothing of nothing", x=X[:0], targets=Y[:0], rank=True)
    reason = "a number of classes is not a flag"
    yield one("error: rank", reason, rank=5, error=TypeError, names="rank")
    given = partial(one, targets=Y[:1], rank=True, error=ValueError)
    yield given("error: targets' shape", "it broadcasts, and a number comes out", names="targets")


def _linear_tokens() -> Iterator[Case]:
    packed = partial(made, "tokens", loss="linear_token_stats", x=PACKED, targets=Y)
    plain = partial(packed, upstream=UPSTREAM, dtypes=WIDE)
    case = partial(plain, rank=True)
    yield case("linear", "every field of logits that are never held", dtypes=DTYPES)
    reason = "the last block is not full: a rank of both blocks that have a row is their sum"
    yield case("linear, blocks of four rows", reason, block_rows=4, quick=True)
    yield plain("linear, without the rank", "seven fields", block_rows=2)
    yield case("linear, soft", "the first of the largest", targets=P, to_targets=True)
    yield case("linear, all options", "each is that of cross_entropy", **LINEAR_ALL)
    given = partial(case, x=put(1, 4, to=NAN), targets=np.array([0, -100, 1, 4, -100, 2]))
    yield given("linear, absent rows of NaN", "features that are not read", block_rows=4)
    none = {"x": PACKED[6:], "targets": Y[:0]}
    yield packed("linear, no rows", "nothing", **none, rank=True, dtypes=ONE)


def _top_k() -> Iterator[Case]:
    case = partial(made, "top k", loss=TOP_K, x=X, targets=LISTED, to_targets=True)
    wide = partial(case, dtypes=WIDE)
    one = partial(case, dtypes=ONE)
    reason = "the mean divides by the sum of what is listed, which need not be 1 a row"
    yield case("mean", reason, quick=True, upstream=-2.0)
    yield wide("rows", "each row has its own upstream", **NONE, upstream=SLOTS_UP)
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
    given = partial(one, targets=top_k.pack(np.tile(np.arange(5), (6, 1)), np.full((6, 5), 0.125)))
    yield given("every class listed", reason, rest="uniform")
    reason = "where the loss is +inf the gradient is the same formula"
    yield one("listed on a masked class", reason, x=changed(X, (2, 1), -INF), reduction="sum")
    yield wide("rows alone", "a row's bits depend on the batch around it", **NONE, split=True)
    yield one("infinite logits", "the +inf logits share the whole", x=changed(X, (0, 3), INF))


def _each(case: Callable[..., Case], rest: str) -> Iterator[Case]:
    """Yield what is asked wherever the rest of a row goes."""
    reason = "a padded slot's index wraps to the last class, or its probability counts"
    given = partial(case, targets=EMPTY)
    yield given(f"empty slots, {rest}", reason, z_loss=0.125, dtypes=WIDE, quick=rest == "zero")
    reason = "a row of empty slots is read"
    yield case(f"an absent row of NaN, {rest}", reason, x=changed(X, 4, NAN), targets=EMPTY)
    for name in ("weight", "label_smoothing", "z_loss"):
        yield case(f"{name}, {rest}", "each option is that of soft targets", **{name: EVERY[name]})
    yield case(f"all options, {rest}", "each is that of soft targets, together too", **EVERY)
    reason = "with all smoothing the sum of the list is what is left of it"
    yield case(f"smoothed away, {rest}", reason, label_smoothing=1.0, reduction="sum")
    reason = "a masked class gets a share of the rest, and the loss is infinite"
    given = partial(case, x=MASKED, targets=top_k.pack(POSSIBLE, PROBS[:, :2] / 2))
    yield given(f"masked, {rest}", reason, label_smoothing=0.125, dtypes=WIDE)
    reason = "lse - z loses 4e-8, which is there in the logits"
    given = partial(
        case, x=confident(17.0, classes=5), targets=top_k.pack([[0]], np.array([[1.0]]))
    )
    yield given(f"one row ahead by 17, {rest}", reason, **NONE, dtypes=DTYPES)
