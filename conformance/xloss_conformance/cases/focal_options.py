"""focal_loss under the options that all losses have, and what it must refuse."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from ..model import Case
from .arrays import INF, NAN, ONE, WIDE, logits, soft
from .focal import rows
from .given import GITHUB, LABELS, ROWS, SAMPLE, TORCH, UPSTREAM, WEIGHT, put


def cases() -> list[Case]:
    """Return the rest of the family."""
    return [*_options(), *_errors()]


def _options() -> Iterator[Case]:
    x, t = logits(6, 5, seed=4), soft(6, 5, seed=2)
    case = partial(Case, "focal", loss="focal_loss", dtypes=WIDE)
    yield case("default", "γ = 2, the mean over the rows that are there", x, LABELS)
    yield case(
        "all ignored",
        "0/0 is NaN; the mean over no row is 0",
        x,
        np.full(6, -100),
        see=(f"{TORCH}/70348",),
    )
    yield case("empty", "0/0 is NaN", x[:0], LABELS[:0], dtypes=ONE)
    yield rows(0.5, "one class", "p = 1 and 1 - p = 0, exactly", x[:, :1], np.zeros(6, np.int64))
    weighed = {"weight": WEIGHT, **ROWS}
    yield case(
        "weighted mean",
        "a class weight applied twice, or inside p",
        x,
        LABELS,
        options=weighed,
        dtypes=ONE,
        quick=True,
        see=(
            f"{GITHUB}/mathiaszinnen/focal_loss_torch/issues/13",
            f"{GITHUB}/marcdcfischer/PUNet/issues/1",
        ),
    )
    yield case(
        "weighted mean, absent NaN",
        "NaN in rows left out by where or by weight 0",
        put(x, (2, 2, NAN), (3, 3, NAN)),
        LABELS,
        options=weighed,
        dtypes=ONE,
    )
    light = {"weight": WEIGHT * (WEIGHT != 1.5), **ROWS}
    yield case(
        "no row weighs",
        "all labels of weight 0: 0, not 0/0, though a row be NaN",
        put(x, (1, 4, NAN)),
        np.full(6, 4),
        options=light,
        dtypes=ONE,
    )
    smooth = {"reduction": "none", "label_smoothing": 0.125}
    yield case(
        "smoothed",
        "the mixture over classes, each with its own (1-p)^γ",
        x,
        LABELS,
        options=smooth,
        upstream=UPSTREAM,
        dtypes=ONE,
    )
    yield case(
        "smoothed, masked",
        "no share for a masked class",
        put(x, (0, 1, -INF), (1, 0, -INF), (1, 2, -INF)),
        LABELS,
        options=smooth,
        upstream=UPSTREAM,
        dtypes=ONE,
    )
    every = {**weighed, "label_smoothing": 0.125, "gamma": 0.5}
    yield case(
        "sum, all options",
        "every option at once",
        x,
        LABELS,
        upstream=-2.0,
        options={**every, "reduction": "sum"},
        dtypes=ONE,
    )
    yield case(
        "soft mean, all options",
        "the denominator is a function of soft targets",
        x,
        t,
        options=every,
        to_targets=True,
    )
    capped = {"softcap": 5.0, "reduction": "none"}
    yield case(
        "softcap",
        "tanh's derivative as 1 - tanh² is 0 from 10 on",
        x * 8,
        LABELS,
        options=capped,
        upstream=UPSTREAM,
        dtypes=ONE,
    )
    yield case(
        "softcap, masked",
        "c·tanh(-inf/c) is -c: the masked class comes back",
        put(x, (0, 1, -INF), (1, 0, -INF)),
        LABELS,
        options=capped,
        upstream=UPSTREAM,
        dtypes=ONE,
    )
    yield case(
        "normalizer",
        "the number of objects of the whole batch in place of the rows",
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


def _errors() -> Iterator[Case]:
    x = logits(6, 5, seed=4)
    case = partial(Case, "focal", loss="focal_loss", dtypes=ONE)
    wrong = "a wrong argument broadcasts, and a number comes out"
    yield case(
        "error: gamma",
        "(1-p)^-1 is infinite where it should be 0",
        x,
        LABELS,
        options={"gamma": -1.0},
        error=ValueError,
        names="gamma",
    )
    yield case(
        "error: gamma a word",
        wrong,
        x,
        LABELS,
        options={"gamma": "2"},
        error=TypeError,
        names="gamma",
    )
    yield case(
        "error: softcap",
        "a bound of 0",
        x,
        LABELS,
        options={"softcap": 0.0},
        error=ValueError,
        names="softcap",
    )
    yield case("error: labels' shape", wrong, x, LABELS[:, None], error=ValueError, names="targets")
    yield case(
        "error: weight",
        wrong,
        x,
        LABELS,
        options={"weight": np.ones(6)},
        error=ValueError,
        names="weight",
    )
