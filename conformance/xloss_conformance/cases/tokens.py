"""token_stats and linear_token_stats: what a training log says of each row beside its loss."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from ..model import DTYPES, Case
from . import arrays
from .arrays import EVERY, INF, KEEP, MASKED, NAN, ONE, WIDE, P, S, W, X, Y, changed, confident
from .given import UPSTREAM
from .linear import ALL as LINEAR_ALL
from .linear import LABELS, put
from .linear import X as PACKED
from .making import made


def cases() -> list[Case]:
    """Return the family, of both functions."""
    return [*_whole(), *_linear()]


def _whole() -> Iterator[Case]:
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
    nowhere = changed(X, (2, slice(None)), -INF)
    reason = "lse is -inf, the others NaN, and nothing is correct"
    yield case("no possible class", reason, x=nowhere)
    reason = "NaN in that row and in no other; a rank cannot be NaN"
    yield case("NaN", reason, x=changed(X, (1, 2), NAN), z_loss=0.5)
    reason = "all of them 0, nothing correct, and behind every class"
    given = partial(case, x=changed(X, ([1, 2, 5], [0, 3, 4]), NAN), targets=changed(Y, 1, -100))
    given = partial(given, where=KEEP, sample_weight=np.array([1.0, 2, 0.5, 1, 3, 0]), z_loss=0.5)
    yield given("absent rows of NaN", reason, dtypes=DTYPES, quick=True)
    bad = changed(changed(Y, 2, -1), 4, 7)
    reason = "a label of -1 wraps to the last class, and is correct there"
    yield case("bad labels", reason, targets=bad, z_loss=0.25)
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


def _linear() -> Iterator[Case]:
    packed = partial(made, "tokens", loss="linear_token_stats", x=PACKED, targets=LABELS)
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
    none = {"x": PACKED[6:], "targets": LABELS[:0]}
    yield packed("linear, no rows", "nothing", **none, rank=True, dtypes=ONE)
