"""Targets of a few classes a row: they are the same soft targets written out for all classes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from ..model import DTYPES, Case
from ..top_k import IGNORED, TOP_K, pack
from .arrays import INF, KEEP, MASKED, NAN, ONE, WIDE, S, W, X, changed, confident

NONE = {"reduction": "none"}
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
EVERY = {
    "weight": W,
    "sample_weight": S,
    "where": KEEP,
    "label_smoothing": 0.125,
    "z_loss": 0.0625,
    "softcap": 8.0,
}
SPREAD = {"rest": "uniform"}


def cases() -> list[Case]:
    """Return the family."""
    return list(_cases())


def _cases() -> Iterator[Case]:
    case = partial(Case, "top k", loss=TOP_K, x=X, targets=T, to_targets=True)
    yield case(
        "mean",
        "the mean divides by the sum of what is listed, which need not be 1 a row",
        quick=True,
        dtypes=DTYPES,
        upstream=-2.0,
    )
    yield case(
        "rows", "each row has its own upstream", options=NONE, upstream=UPSTREAM, dtypes=WIDE
    )
    yield case(
        "spread",
        "what the list lacks to 1 is spread over the other classes, and not over all",
        options={**SPREAD, **NONE},
        quick=True,
        dtypes=DTYPES,
    )
    yield case("spread, mean", "the row weight has the rest in it", options=SPREAD, dtypes=WIDE)
    yield case("a class twice", "the last of two entries wins", targets=TWICE, quick=True)
    yield case(
        "a class twice, spread",
        "a class that is listed twice is counted twice among the listed ones",
        targets=TWICE,
        options={**SPREAD, **NONE},
        dtypes=WIDE,
    )
    for rest in ("zero", "uniform"):
        yield case(
            f"empty slots, {rest}",
            "a padded slot's index wraps to the last class, or its probability counts",
            targets=EMPTY,
            options={"rest": rest, "z_loss": 0.125},
            dtypes=WIDE,
            quick=rest == "zero",
        )
        yield case(
            f"an absent row of NaN, {rest}",
            "a row of empty slots is read",
            x=changed(X, 4, NAN),
            targets=EMPTY,
            options={"rest": rest},
            dtypes=ONE,
        )
        for name in ("weight", "label_smoothing", "z_loss"):
            yield case(
                f"{name}, {rest}",
                "each option is that of soft targets",
                options={"rest": rest, name: EVERY[name]},
                dtypes=ONE,
            )
        yield case(
            f"all options, {rest}",
            "each is that of soft targets, together too",
            options={"rest": rest, **EVERY},
            dtypes=ONE,
        )
        yield case(
            f"smoothed away, {rest}",
            "with all smoothing the sum of the list is what is left of it",
            options={"rest": rest, "label_smoothing": 1.0, "reduction": "sum"},
            dtypes=ONE,
        )
        yield case(
            f"masked, {rest}",
            "a masked class gets a share of the rest, and the loss is infinite",
            x=MASKED,
            targets=pack(POSSIBLE, PROBS[:, :2] / 2),
            options={"rest": rest, "label_smoothing": 0.125},
            dtypes=WIDE,
        )
        yield case(
            f"one row ahead by 17, {rest}",
            "lse - z loses 4e-8, which is there in the logits",
            x=confident(17.0, classes=5),
            targets=pack([[0]], np.array([[1.0]])),
            options={"rest": rest, **NONE},
        )
    yield case(
        "a normalizer",
        "a denominator of its own has no gradient",
        options={"normalizer": 4.0, **SPREAD},
        dtypes=ONE,
    )
    yield case(
        "every class listed",
        "with no other class there is no rest, and no division by their number",
        targets=pack(np.tile(np.arange(5), (6, 1)), np.full((6, 5), 0.125)),
        options=SPREAD,
        dtypes=ONE,
    )
    yield case(
        "listed on a masked class",
        "where the loss is +inf the gradient is the same formula",
        x=changed(X, (2, 1), -INF),
        options={"reduction": "sum"},
        dtypes=ONE,
    )
    yield case(
        "rows alone",
        "a row's bits depend on the batch around it",
        options=NONE,
        split=True,
        dtypes=WIDE,
    )
    yield case(
        "infinite logits", "the +inf logits share the whole", x=changed(X, (0, 3), INF), dtypes=ONE
    )
