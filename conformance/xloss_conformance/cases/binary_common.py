"""What the cases of the three losses of one probability an element have in common."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from ..model import Array, Case
from .arrays import INF, NAN, ONE, WIDE, grid
from .given import GITHUB, TORCH
from .tail import GAPS

TRAIN = f"{GITHUB}/pytorch/pytorch/pull"
OPTAX = f"{GITHUB}/google-deepmind/optax"

# Every case has 18 elements: a compiler meets one shape.
COUNT = 18
GAP = np.array(GAPS, np.float64)
HARD = (np.arange(COUNT) % 3 == 0).astype(np.float64)
SOFT = np.array([0, 1, 0.25, 0.5, 0.875, 0.125] * 3)
UPSTREAM = np.array([1.0, -2.0, 0.5, 3.0, 0.25, -1.5] * 3)
SAMPLE = np.array([1.0, 2.0, 0.5, 0.0, 3.0, 1.25] * 3)
KEEP = np.arange(COUNT) % 5 != 2
POS = np.array([1.0, 3.0, 0.5, 0.0, 2.0, 8.0] * 3)
ENDS = np.array(
    [INF, INF, INF, -INF, -INF, -INF, 1e4, -1e4, 1e4, -1e4, 0, 0, 0, 88, -88, 104, -104, 1]
)
ENDS_T = np.array([0, 1, 0.5, 0, 1, 0.5, 0, 0, 1, 1, 0, 1, 0.5, 0, 0, 1, 1, 0], np.float64)
LOGITS = grid(np.random.default_rng(18).standard_normal(COUNT) * 4)
# In 64ths, and neither 0 nor 1.
PROBS = np.random.default_rng(19).integers(1, 64, COUNT) / 64

NONE: dict[str, Any] = {"reduction": "none"}
ROWS: dict[str, Any] = {"sample_weight": SAMPLE, "where": KEEP}
CONFIDENT = "1 - p of a rounded p is 0 in float32 from a gap of 17 on, and log1p of it with it"
LIMITS = "x·t, or a gradient, of an infinite logit is inf - inf or 0·inf: NaN"


def swap(x: Array, *places: tuple[int, float]) -> Array:
    """Return a copy with (place, value) in it."""
    out = x.copy()
    for i, value in places:
        out[i] = value
    return out


def tails(family: str, loss: str) -> Iterator[Case]:
    rows = partial(Case, family, loss=loss, options=NONE, upstream=UPSTREAM, to_targets=True)
    see = (f"{TRAIN}/66441",)
    yield rows("gaps 5 to 82, positive", CONFIDENT, GAP, np.ones(COUNT), see=see, quick=True)
    yield rows("gaps 5 to 82, negative", CONFIDENT, -GAP, np.zeros(COUNT), see=see)
    yield rows(
        "gaps 5 to 82, wrong",
        "the loss of the wrong answer is the gap: it is not 100 at most",
        np.where(HARD == 1, -GAP, GAP) * 4,
        HARD,
        see=(f"{TRAIN}/163975", f"{TRAIN}/2221"),
        dtypes=WIDE,
    )
    yield rows("gaps 5 to 82, soft", "the two terms of a soft target meet", GAP, SOFT, dtypes=WIDE)
    yield rows(
        "p = 0 and 1",
        LIMITS,
        ENDS,
        ENDS_T,
        dtypes=WIDE,
        quick=True,
        see=(f"{TORCH}/135359", f"{TORCH}/49844", f"{GITHUB}/pyro-ppl/numpyro/issues/2240"),
    )


def common(family: str, loss: str, x: Array) -> Iterator[Case]:
    """Cases of all three."""
    case = partial(Case, family, loss=loss, dtypes=WIDE)
    rows = partial(case, options=NONE, upstream=UPSTREAM)
    yield case("mean", "the plain call", x, HARD)
    yield rows(
        "soft",
        "the gradient to a soft target is the difference of the two logarithms",
        x,
        SOFT,
        to_targets=True,
        split=True,
    )
    for layout in ("strided", "readonly"):
        yield rows(
            f"layout {layout}",
            "flat memory in another order than the targets'",
            x,
            SOFT,
            to_targets=True,
            layout=layout,
        )
    yield rows(
        "bool targets", "1 - t of a bool is an error, or is taken as not t", x, HARD > 0, dtypes=ONE
    )
    yield rows(
        "integer targets",
        "0 and 1 of any integer dtype, unsigned ones too: 0 - 1 wraps",
        x,
        HARD.astype(np.uint8),
        dtypes=ONE,
    )
    yield rows(
        "int64 targets",
        "the targets' dtype does not decide the loss's",
        x,
        HARD.astype(np.int64),
        dtypes=ONE,
    )
    yield rows(
        "integer targets of 2",
        "class indices given to a binary loss make it negative",
        x,
        np.where(np.arange(COUNT) == 4, 2, HARD).astype(np.uint8),
        dtypes=ONE,
        see=(f"{TRAIN}/177506",),
    )
    yield rows(
        "NaN",
        "NaN in that element and no other",
        swap(x, (3, NAN), (4, NAN)),
        SOFT,
        to_targets=True,
    )
    weighed = partial(case, options=ROWS, dtypes=ONE)
    yield weighed(
        "weighted mean",
        "the denominator is the sum of the weights of what is there",
        x,
        HARD,
        quick=family == "binary logits",
    )
    yield weighed(
        "weighted mean, absent NaN",
        "where=False and weight 0 contribute nothing, whatever stands there",
        swap(x, (2, NAN), (3, NAN), (9, INF), (12, -INF)),
        swap(HARD, (15, NAN), (17, -INF)),
        see=(f"{TORCH}/121416",),
    )
    yield weighed(
        "all absent",
        "0/0 is NaN; the mean over nothing is 0",
        swap(x, (4, NAN)),
        HARD,
        options={"sample_weight": SAMPLE, "where": SAMPLE == 0},
    )
    yield case("empty", "0/0 is NaN", x[:0], HARD[:0], dtypes=ONE, see=(f"{TORCH}/51906",))
    yield case(
        "sum",
        "no denominator",
        x,
        HARD,
        options={**ROWS, "reduction": "sum"},
        dtypes=ONE,
        upstream=-2.0,
    )
    yield case(
        "normalizer",
        "the count of a global batch in place of this one's",
        x,
        HARD,
        options={**ROWS, "normalizer": np.array(16.0)},
        dtypes=ONE,
    )
    yield case(
        "weights that broadcast",
        "a weight a column, and a row left out",
        x.reshape(6, 3),
        HARD.reshape(6, 3),
        dtypes=ONE,
        options={"sample_weight": np.array([1.0, 0.5, 2.0]), "where": (np.arange(6) != 2)[:, None]},
    )
    wrong = partial(
        Case,
        family,
        loss=loss,
        dtypes=ONE,
        reason="it broadcasts, and a number comes out",
        error=ValueError,
    )
    yield wrong("error: targets' shape", x=x.reshape(6, 3), targets=HARD[:6, None], names="targets")
    yield wrong(
        "error: sample_weight",
        x=x,
        targets=HARD,
        names="sample_weight",
        options={"sample_weight": np.ones((2, COUNT))},
    )
    yield wrong(
        "error: reduction", x=x, targets=HARD, names="reduction", options={"reduction": "batchmean"}
    )
    yield wrong(
        "error: where", x=x, targets=HARD, names="where", options={"where": HARD}, error=TypeError
    )
