"""kl_div, and the entropy of a softmax."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from ..model import DTYPES, Case
from .arrays import INF, NAN, ONE, WIDE, changed, grid, logits, soft
from .given import KEEP, NOTHING, ROWS, SAMPLE, UPSTREAM, log_probs, put
from .making import NONE, github, made, torch

OPTAX = github("google-deepmind/optax/pull/1786")
GAPS = (5, 12, 17, 30, 50, 82)
X, T = log_probs(), soft(6, 5, seed=2)
divergence = partial(made, "kl", loss="kl_div", x=X, targets=T)


def cases() -> list[Case]:
    """Return both families."""
    return [*_kl(), *_kl_options(), *_entropy()]


def _kl() -> Iterator[Case]:
    x, t = X, T
    inner = (t * 59).round() + 1  # none of them 0
    inner = inner / 64
    rows = partial(divergence, **NONE, upstream=UPSTREAM, to_targets=True, dtypes=WIDE)
    reason = "0·log 0 is 0: a class with target 0 is absent, from the gradient to it too"
    yield rows("rows", reason, dtypes=DTYPES, split=True, quick=True, see=torch(89558) + OPTAX)
    yield rows("no zeros", "the gradient to a target is log t - log q + 1", targets=inner)
    for layout in ("F", "reversed"):
        reason = "flat memory in another order than the targets'"
        yield rows(f"layout {layout}", reason, layout=layout)
    reason = "of a one-hot target it is the negative log-likelihood"
    yield rows("one-hot", reason, targets=np.eye(5)[[0, 1, 2, 3, 4, 0]])
    reason = "0·(0 - (-inf)): a masked class with target 0"
    yield rows("masked", reason, x=np.where(t == 0, -INF, x), quick=True, see=OPTAX)
    label = int(np.argmax(t[1]))
    reason = "a target on a masked class costs +inf, not NaN"
    yield rows("masked target", reason, x=put(x, (1, label, -INF)))
    reason = "a class with target 0 is not read: a NaN there is none in the loss"
    yield rows("NaN that no term reads", reason, x=np.where((t == 0) & KEEP[:, None], NAN, x))
    reason = "NaN in that row's loss and no other's; the gradient to log-probabilities reads none"
    yield rows("NaN", reason, x=put(x, (1, label, NAN)))
    reason = "log of a negative target is NaN: 0 in its place hides a bug"
    yield rows("negative target", reason, targets=put(t, (1, 2, -0.25)), see=torch(69230))
    tiny = put(inner, *((i, i % 5, 2.0**-100) for i in range(6)))
    yield rows("tiny targets", "t log t of 2^-100", targets=tiny)
    near = np.log(inner.astype(np.float32)).astype(np.float64)
    yield rows("p = q", "terms of either sign meet in a sum near 0", x=near, targets=inner)
    reason = "-log q of 1 - e^-17 is e^-17, and is lost by exp and log again"
    sure = changed(np.full((6, 5), -90.0), (slice(None), 0), -np.exp(-np.array(GAPS, float)))
    yield rows("near certainty", reason, x=sure, targets=np.eye(5)[[0] * 6], dtypes=DTYPES)
    log_t = grid(np.log(inner))
    logs = partial(rows, targets=log_t, log_target=True)
    yield logs("log_target", "targets given as logarithms are not logged again", see=torch(34536))
    reason = "exp(-inf)·(-inf - log q) is 0·inf; both -inf give inf - inf"
    none = put(log_t, (0, 1, -INF), (1, 1, -INF), (2, 3, -INF), (4, 0, -INF))
    given = partial(logs, x=put(x, (0, 1, -INF), (2, 3, -INF)), targets=none)
    yield given("log_target, -inf", reason, quick=True, see=OPTAX)
    yield logs("log_target, masked target", "+inf, not NaN", x=put(x, (1, 1, -INF)))
    given = partial(logs, x=put(x, (0, 1, NAN)), targets=put(log_t, (0, 1, -INF)))
    yield given("log_target, NaN that no term reads", "as for a target of 0")


def _kl_options() -> Iterator[Case]:
    x, t = X, T
    case = partial(divergence, dtypes=ONE)
    reason = 'over rows, as torch\'s "batchmean": its "mean" divides by the classes too'
    see = torch(2259) + github("facebookresearch/deit/issues/61")
    yield case("mean", reason, to_targets=True, dtypes=DTYPES, quick=True, see=see)
    weighed = partial(case, **ROWS, to_targets=True, dtypes=WIDE)
    reason = "the denominator is the weight of what is there, and no function of the targets"
    yield weighed("weighted mean", reason)
    reason = "NaN in rows left out by where or by weight 0"
    given = partial(weighed, x=put(x, (2, 2, NAN), (3, 3, INF)))
    yield given("weighted mean, absent NaN", reason, targets=put(t, (2, 0, NAN), (3, 1, -1.0)))
    yield weighed("all absent", NOTHING, x=put(x, (0, 0, NAN)), where=SAMPLE == 0)
    yield case("empty", "0/0 is NaN", x=x[:0], targets=t[:0], see=torch(51910))
    one = {"x": np.zeros((6, 1)), "targets": np.ones((6, 1)), "upstream": UPSTREAM, **NONE}
    yield case("one class", "log 1 - log 1", **one, to_targets=True)
    yield case("sum", "no denominator", **ROWS, reduction="sum", upstream=-2.0)
    reason = "the count of a global batch in place of this one's"
    yield case("normalizer", reason, **ROWS, normalizer=np.array(16.0))
    turned = {"x": x.T.copy(), "targets": t.T.copy(), "axis": 0}
    yield case("class axis 0", "the class axis is the caller's", **turned, to_targets=True)
    wrong = partial(case, reason="it broadcasts, and a number comes out", error=ValueError)
    bad = partial(wrong, names="targets")
    yield bad("error: class indices", targets=np.zeros(6, np.int64), error=TypeError)
    yield bad("error: targets' shape", targets=t[:1])
    yield wrong("error: reduction", reduction="batchmean", names="reduction")
    yield wrong("error: log_target", log_target=1, error=TypeError, names="log_target")


def _entropy() -> Iterator[Case]:
    x = logits(6, 5, seed=5)
    case = partial(made, "entropy", targets=None, loss="entropy", x=x, dtypes=WIDE)
    rows = partial(case, upstream=UPSTREAM)
    reason = "the gradient is p (nll - H), whose factors cancel"
    yield rows("rows", reason, dtypes=DTYPES, split=True, quick=True)
    for layout in ("strided", "readonly"):
        yield rows(f"layout {layout}", "flat memory in another order", layout=layout)
    gaps = np.stack([np.array([0.0, -g, -g - 1, -g - 2, -2 * g]) for g in GAPS])
    reason = "H is g·e^-g: lost where 1 - p is"
    yield rows("gaps 5 to 82", reason, x=gaps, dtypes=DTYPES, quick=True)
    reason = "p log p of p = 0 is 0·(-inf), NaN: a masked class adds nothing"
    see = github("tensorflow/probability/issues/241", "huggingface/trl/issues/7221")
    given = partial(rows, x=put(x, (0, 1, -INF), (1, 0, -INF), (1, 2, -INF), (5, 4, -INF)))
    yield given("masked", reason, quick=True, see=torch(40553) + see)
    far = put(x, (0, 1, -200.0), (1, 1, -1000.0), (2, 2, -1e30))
    yield rows("underflow", "p of e^-200 is 0 in float32, its logarithm -200", x=far)
    alone = put(np.full((6, 5), -INF), *((i, i % 5, 1.0) for i in range(6)))
    yield rows("one possible class", "H = 0, and no -0·inf", x=alone)
    nowhere = put(x, *((1, j, -INF) for j in range(5)))
    yield rows("no possible class", "NaN in that row and no other", x=nowhere)
    shared = put(x, (0, 0, INF), (1, 1, INF), (1, 3, INF), (2, 1, -INF))
    yield rows("+inf", "+inf logits share the whole probability: log 2 for two of them", x=shared)
    yield rows("NaN", "NaN in that row and no other", x=put(x, (1, 1, NAN)))
    ties = np.repeat(x[:, :1], 5, axis=1)
    yield rows("ties", "uniform: H = log 5, and a gradient of exactly 0", x=ties)
    yield rows("offset 10000", "exp overflows where the maximum is not subtracted", x=x + 10000.0)
    shapes = partial(case, dtypes=ONE)
    yield shapes("one class", "H = 0", x=x[:, :1])
    yield shapes("empty", "no row, and no maximum", x=x[:0])
    turned = np.ascontiguousarray(x.T)
    yield shapes("class axis 0", "the class axis is the caller's", x=turned, axis=0)
    two = np.stack([x, x[::-1]], axis=-1)
    yield shapes("class axis 1 of 3", "rows lie before and after the class axis", x=two, axis=1)
    wrong = partial(shapes, error=ValueError)
    yield wrong("error: axis", "the last axis in place of it", axis=2, names="axis")
    yield wrong("error: no axis", "nothing to sum over", x=np.array(1.0), names="logits")
