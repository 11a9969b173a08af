"""What the cases of nll_loss and log_loss have in common: what they take is given, no logits."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from ..model import DTYPES, Array, Case
from .arrays import INF, NAN, ONE, WIDE, grid, logits, soft

LABELS = np.array([0, 1, 2, 3, 4, 0])
WEIGHT = np.array([1.0, 0.5, 2.0, 0.25, 1.5])
SAMPLE = np.array([1.0, 2.0, 0.5, 0.0, 3.0, 1.25])
KEEP = np.array([True, True, False, True, True, True])
UPSTREAM = np.array([1.0, -2.0, 0.5, 3.0, 0.25, -1.5])

NONE: dict[str, Any] = {"reduction": "none"}
SMOOTH: dict[str, Any] = {"reduction": "none", "label_smoothing": 0.125}
ROWS: dict[str, Any] = {"sample_weight": SAMPLE, "where": KEEP}

GITHUB = "https://github.com"
TORCH = f"{GITHUB}/pytorch/pytorch/issues"
SKLEARN = f"{GITHUB}/scikit-learn/scikit-learn/issues"
KERAS = f"{GITHUB}/keras-team/keras/issues"


def put(x: Array, *entries: tuple[int, int, float]) -> Array:
    """Return a copy with (row, class, value) in it."""
    out = x.copy()
    for i, j, value in entries:
        out[i, j] = value
    return out


def log_probs(rows: int = 6, classes: int = 5) -> Array:
    z = logits(rows, classes, seed=1)
    return grid(z - np.log(np.exp(z).sum(-1, keepdims=True)))


def probs(rows: int = 6, classes: int = 5) -> Array:
    """Probabilities in 128ths, none of them 0."""
    return np.asarray((soft(rows, classes, seed=1) * (128 - classes)).round() + 1) / 128


def family(name: str, loss: str, x: Array, never: float) -> Iterator[Case]:
    """Yield cases of either; `never` is how a probability of 0 stands there."""
    case = partial(Case, name, loss=loss, dtypes=WIDE)
    rows = partial(case, options=NONE, upstream=UPSTREAM)
    t = soft(6, 5, seed=2)
    hot = np.eye(5)[LABELS]
    yield case("mean", "the plain call", x, LABELS)
    yield rows(
        "rows",
        "a gradient scaled by one upstream number is wrong where each has its own",
        x,
        LABELS,
        split=True,
        quick=True,
    )
    for layout in ("F", "reversed"):
        yield rows(
            f"layout {layout}", "flat indexing reads another row's label", x, LABELS, layout=layout
        )
    yield rows(
        "never, elsewhere",
        "0·(-inf) is NaN: a class of probability 0 adds nothing where the target is elsewhere",
        put(x, (0, 1, never), (1, 0, never), (5, 4, never)),
        LABELS,
    )
    yield rows(
        "never, at the label",
        "certainty of the wrong answer costs +inf; clipping hides it",
        put(x, (1, 1, never), (4, 4, never)),
        LABELS,
        see=(f"{SKLEARN}/17399",),
    )
    yield rows(
        "NaN that no term reads",
        "with class indices only the label's entry of a row is read",
        put(x, (0, 1, NAN), (2, 4, NAN), (5, 3, NAN)),
        LABELS,
        quick=True,
    )
    yield rows(
        "NaN at the label",
        "a NaN must not be clipped away, nor reach another row",
        put(x, (1, 1, NAN)),
        LABELS,
    )
    yield rows(
        "ignored rows of NaN",
        "an ignored row contributes exactly nothing, whatever stands there",
        put(x, (1, 0, NAN), (1, 1, NAN), (3, 2, INF)),
        np.array([0, -100, 2, -100, 4, 0]),
        see=(f"{TORCH}/20406",),
        quick=True,
    )
    yield rows(
        "bad labels",
        "a label of -1 wraps to the last class; one of C reads the next row",
        x,
        np.array([0, -1, 2, 5, 4, 0]),
        see=(f"{TORCH}/39769", f"{TORCH}/66872"),
    )
    yield rows(
        "bad labels, not read",
        "with validate=False the row is NaN, never another class's loss",
        x,
        np.array([0, -1, 2, 5, 4, 0]),
        options={**NONE, "validate": False},
        see=(f"{TORCH}/66076",),
    )
    yield rows(
        "unsigned labels",
        "156 is not -100, and 2^8 - 1 is not -1",
        x,
        np.array([0, 156, 2, 255, 4, 0], np.uint8),
        dtypes=ONE,
        see=(f"{TORCH}/89369",),
    )
    yield case(
        "all ignored",
        "0/0 is NaN; the mean over no row is 0",
        x,
        np.full(6, -100),
        see=(f"{TORCH}/70348", f"{TORCH}/116349"),
    )
    yield case(
        "empty",
        "0/0 is NaN, and a maximum over nothing raises",
        x[:0],
        LABELS[:0],
        dtypes=ONE,
        see=(f"{TORCH}/51910",),
    )
    yield rows(
        "one class",
        "nothing else to spread to",
        x[:, :1],
        np.array([0, 0, -100, 0, 0, 0]),
        dtypes=ONE,
    )

    # Soft targets, with the gradient to them.
    mixed = partial(rows, to_targets=True)
    yield mixed(
        "soft",
        "the gradient to soft targets is each class's own loss",
        x,
        t,
        quick=True,
        dtypes=DTYPES,
    )
    yield mixed("one-hot", "an index is its one-hot row, tail included", x, hot)
    yield mixed(
        "soft, 0 log 0",
        "0·(-inf) is NaN, in the gradient to the targets too",
        np.where(t == 0, never, x),
        t,
    )
    yield mixed(
        "soft, never",
        "a target on a class of probability 0 costs +inf, not NaN",
        put(x, (1, int(np.argmax(t[1])), never)),
        t,
    )
    yield mixed(
        "soft, NaN that no term reads",
        "as for an index: a target of 0 reads nothing",
        np.where((t == 0) & KEEP[:, None], NAN, x),
        t,
    )
    yield mixed("soft, nothing", "a row whose targets are all 0 has no loss", x, t * KEEP[:, None])

    # Weights and smoothing.
    weighed = partial(case, options={"weight": WEIGHT, **ROWS}, dtypes=ONE)
    yield weighed(
        "weighted mean",
        "the denominator is Σ of the weights of the rows that are there, not their number",
        x,
        LABELS,
        see=(f"{TORCH}/31295", f"{TORCH}/72047"),
        quick=True,
    )
    yield weighed(
        "weighted mean, absent NaN",
        "NaN in rows left out by where or by weight 0",
        put(x, (2, 2, NAN), (3, 3, NAN), (3, 0, NAN)),
        LABELS,
    )
    light: dict[str, Any] = {"weight": WEIGHT * (WEIGHT != 1.5), **ROWS}
    yield case(
        "class weight 0",
        "a label of weight 0 counts neither above nor below, infinite or NaN though its loss be",
        put(x, (4, 4, NAN), (1, 0, never)),
        LABELS,
        options=light,
        dtypes=ONE,
    )
    yield case(
        "class weight 0, never",
        "0·inf: an infinite loss of weight 0 is absent",
        put(x, (4, 4, never)),
        LABELS,
        options=light,
        dtypes=ONE,
    )
    yield case(
        "no row weighs",
        "all labels of weight 0: 0, not 0/0, though a row be NaN",
        put(x, (1, 4, NAN)),
        np.full(6, 4),
        options=light,
        dtypes=ONE,
    )
    smooth = partial(rows, options=SMOOTH, dtypes=ONE)
    yield smooth("smoothed", "the target's share is spread over all classes", x, LABELS)
    yield smooth(
        "smoothed, never",
        "u is uniform over the classes possible in that row: spread "
        "over an impossible one it costs +inf",
        put(x, (0, 1, never), (1, 0, never), (1, 2, never)),
        LABELS,
    )
    yield smooth(
        "smoothed, nothing possible",
        "NaN in that row and no other",
        put(x, *((1, j, never) for j in range(5))),
        LABELS,
    )
    yield smooth(
        "smoothed, NaN", "smoothing reads every class of a row", put(x, (1, 3, NAN)), LABELS
    )
    every = {"weight": WEIGHT, **ROWS, "label_smoothing": 0.125}
    yield case(
        "sum, all options",
        "weights multiply the smoothed target, class by class",
        x,
        LABELS,
        options={**every, "reduction": "sum"},
        upstream=-2.0,
        dtypes=ONE,
        see=(f"{TORCH}/104776",),
    )
    yield case(
        "soft mean, all options",
        "the denominator is a function of soft targets: their gradient has a second term",
        x,
        t,
        options=every,
        to_targets=True,
    )
    yield case(
        "soft rows, all options",
        "smoothed soft targets under weights",
        x,
        t,
        options={**every, "reduction": "none"},
        upstream=UPSTREAM,
        to_targets=True,
        dtypes=ONE,
    )
    yield case(
        "normalizer",
        "the count of a global batch in place of this one's",
        x,
        LABELS,
        options={"sample_weight": SAMPLE, "normalizer": np.array(16.0)},
        dtypes=ONE,
    )
    yield case(
        "class axis 0",
        "the class axis is the caller's",
        x.T.copy(),
        t.T.copy(),
        options={"axis": 0},
        to_targets=True,
        dtypes=ONE,
    )
    yield case(
        "class axis 1 of 3",
        "rows lie before and after the class axis",
        np.stack([x, x[::-1]], axis=-1),
        np.stack([LABELS, LABELS], axis=-1),
        options={"axis": 1},
        dtypes=ONE,
    )
