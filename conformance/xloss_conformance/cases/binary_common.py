"""What the cases of the three losses of one probability an element have in common."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from ..model import Array, Case
from . import given
from .arrays import INF, NAN, ONE, WIDE, grid
from .given import put
from .making import GITHUB, NONE, TORCH, made
from .tail import GAPS

TRAIN = f"{GITHUB}/pytorch/pytorch/pull"
OPTAX = f"{GITHUB}/google-deepmind/optax"

# Every case has 18 elements: a compiler meets one shape.
COUNT = 18
GAP = np.array(GAPS, np.float64)
HARD = (np.arange(COUNT) % 3 == 0).astype(np.float64)
SOFT = np.array([0, 1, 0.25, 0.5, 0.875, 0.125] * 3)
UPSTREAM, SAMPLE = np.tile(given.UPSTREAM, 3), np.tile(given.SAMPLE, 3)
KEEP = np.arange(COUNT) % 5 != 2
POS = np.array([1.0, 3.0, 0.5, 0.0, 2.0, 8.0] * 3)
ENDS = np.array(
    [INF, INF, INF, -INF, -INF, -INF, 1e4, -1e4, 1e4, -1e4, 0, 0, 0, 88, -88, 104, -104, 1]
)
ENDS_T = np.array([0, 1, 0.5, 0, 1, 0.5, 0, 0, 1, 1, 0, 1, 0.5, 0, 0, 1, 1, 0], np.float64)
LOGITS = grid(np.random.default_rng(18).standard_normal(COUNT) * 4)
# In 64ths, and neither 0 nor 1.
PROBS = np.random.default_rng(19).integers(1, 64, COUNT) / 64

ROWS: dict[str, Any] = {"sample_weight": SAMPLE, "where": KEEP}
CONFIDENT = "1 - p of a rounded p is 0 in float32 from a gap of 17 on, and log1p of it with it"
LIMITS = "x·t, or a gradient, of an infinite logit is inf - inf or 0·inf: NaN"


def tails(family: str, loss: str) -> Iterator[Case]:
    rows = partial(made, family, loss=loss, **NONE, upstream=UPSTREAM, to_targets=True)
    tail = partial(rows, reason=CONFIDENT, see=(f"{TRAIN}/66441",))
    yield tail("gaps 5 to 82, positive", x=GAP, targets=np.ones(COUNT), quick=True)
    yield tail("gaps 5 to 82, negative", x=-GAP, targets=np.zeros(COUNT))
    rows = partial(rows, dtypes=WIDE)
    yield rows(
        "gaps 5 to 82, wrong",
        "the loss of the wrong answer is the gap: it is not 100 at most",
        x=np.where(HARD == 1, -GAP, GAP) * 4,
        targets=HARD,
        see=(f"{TRAIN}/163975", f"{TRAIN}/2221"),
    )
    yield rows("gaps 5 to 82, soft", "the two terms of a soft target meet", x=GAP, targets=SOFT)
    see = f"{TORCH}/135359", f"{TORCH}/49844", f"{GITHUB}/pyro-ppl/numpyro/issues/2240"
    yield rows("p = 0 and 1", LIMITS, x=ENDS, targets=ENDS_T, quick=True, see=see)


def common(family: str, loss: str, x: Array) -> Iterator[Case]:
    """Cases of all three."""
    case = partial(made, family, loss=loss, x=x, targets=HARD, dtypes=WIDE)
    yield case("mean", "the plain call")
    rows = partial(case, **NONE, upstream=UPSTREAM)
    soft = partial(rows, targets=SOFT, to_targets=True)
    reason = "the gradient to a soft target is the difference of the two logarithms"
    yield soft("soft", reason, split=True)
    for layout in ("strided", "readonly"):
        reason = "flat memory in another order than the targets'"
        yield soft(f"layout {layout}", reason, layout=layout)
    one = partial(rows, dtypes=ONE)
    reason = "1 - t of a bool is an error, or is taken as not t"
    yield one("bool targets", reason, targets=HARD > 0)
    reason = "0 and 1 of any integer dtype, unsigned ones too: 0 - 1 wraps"
    yield one("integer targets", reason, targets=HARD.astype(np.uint8))
    reason = "the targets' dtype does not decide the loss's"
    yield one("int64 targets", reason, targets=HARD.astype(np.int64))
    yield one(
        "integer targets of 2",
        "class indices given to a binary loss make it negative",
        targets=np.where(np.arange(COUNT) == 4, 2, HARD).astype(np.uint8),
        see=(f"{TRAIN}/177506",),
    )
    yield soft("NaN", "NaN in that element and no other", x=put(x, (3, NAN), (4, NAN)))
    one = partial(case, dtypes=ONE)
    weighed = partial(one, **ROWS)
    reason = "the denominator is the sum of the weights of what is there"
    yield weighed("weighted mean", reason, quick=family == "binary logits")
    yield weighed(
        "weighted mean, absent NaN",
        "where=False and weight 0 contribute nothing, whatever stands there",
        x=put(x, (2, NAN), (3, NAN), (9, INF), (12, -INF)),
        targets=put(HARD, (15, NAN), (17, -INF)),
        see=(f"{TORCH}/121416",),
    )
    reason = "0/0 is NaN; the mean over nothing is 0"
    yield weighed("all absent", reason, x=put(x, (4, NAN)), where=SAMPLE == 0)
    see = (f"{TORCH}/51906",)
    yield one("empty", "0/0 is NaN", x=x[:0], targets=HARD[:0], see=see)
    yield weighed("sum", "no denominator", reduction="sum", upstream=-2.0)
    reason = "the count of a global batch in place of this one's"
    yield weighed("normalizer", reason, normalizer=np.array(16.0))
    yield one(
        "weights that broadcast",
        "a weight a column, and a row left out",
        x=x.reshape(6, 3),
        targets=HARD.reshape(6, 3),
        sample_weight=np.array([1.0, 0.5, 2.0]),
        where=(np.arange(6) != 2)[:, None],
    )
    wrong = partial(one, reason="it broadcasts, and a number comes out", error=ValueError)
    columns = {"x": x.reshape(6, 3), "targets": HARD[:6, None]}
    yield wrong("error: targets' shape", **columns, names="targets")
    enlarging = np.ones((2, COUNT))
    yield wrong("error: sample_weight", names="sample_weight", sample_weight=enlarging)
    yield wrong("error: reduction", names="reduction", reduction="batchmean")
    yield wrong("error: where", names="where", where=HARD, error=TypeError)
