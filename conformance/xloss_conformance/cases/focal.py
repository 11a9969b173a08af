"""focal_loss: cross-entropy times (1 - p)^γ, in which 1 - p must not cancel."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from ..model import DTYPES, Array, Case
from .arrays import INF, NAN, ONE, WIDE, grid, logits, soft
from .given import GITHUB, KEEP, LABELS, ROWS, SAMPLE, TORCH, UPSTREAM, WEIGHT, put

GAMMAS = (0.0, 0.5, 1.0, 2.0, 5.0)
GAPS = {
    "5 to 17": (5, 8, 10, 12, 16, 17),
    "18 to 40": (18, 20, 25, 30, 36, 40),
    "50 to 82": (50, 60, 70, 75, 80, 82),
}
LOST = "1 - p is 0 in float32 from a gap of 17 on: loss and gradient are lost with it"
POWER = "(1 - p)^(γ-1) at p = 1 is 0^-1 below γ = 1: 0·inf, a NaN gradient"
WEIGHED_P = f"{GITHUB}/gokulprasadthekkel/pytorch-multi-class-focal-loss/issues/1"
NAN_BELOW_1 = (
    f"{GITHUB}/liuyuisanai/Focal-Loss/issues/11",
    f"{GITHUB}/fizyr/keras-retinanet/issues/706",
)


def confident(gaps: tuple[float, ...]) -> Array:
    """Rows whose label is ahead of the next class by a gap."""
    x = -grid(np.abs(logits(6, 5, seed=3)))
    for i, gap in enumerate(gaps):
        x[i] -= gap
        x[i, LABELS[i]] = 0.0
        x[i, (LABELS[i] + 1) % 5] = -gap
    return x


def cases() -> list[Case]:
    """Return the family."""
    return [*_gammas(), *_extremes(), *_targets(), *_options(), *_errors()]


def _rows(gamma: float, label: str, reason: str, x: Array, t: Array, **more: Any) -> Case:
    options = {"reduction": "none", "gamma": gamma, **more.pop("options", {})}
    more.setdefault("dtypes", WIDE)
    more.setdefault("upstream", UPSTREAM)
    return Case("focal", label, reason, x, t, "focal_loss", options, **more)


def _gammas() -> Iterator[Case]:
    x = logits(6, 5, seed=4)
    for gamma in GAMMAS:
        see = NAN_BELOW_1 if gamma < 1 else ()
        main = gamma in (0.5, 2.0)
        dtypes = DTYPES if gamma == 2.0 else WIDE if main else ONE
        for name in GAPS if main else ("18 to 40",):
            yield _rows(
                gamma,
                f"gamma {gamma:g}, gaps {name}",
                POWER if gamma < 1 else LOST,
                confident(GAPS[name]),
                LABELS,
                see=see,
                dtypes=dtypes,
                quick=(gamma, name) in [(2.0, "18 to 40"), (0.5, "50 to 82")],
            )
        yield _rows(
            gamma,
            f"gamma {gamma:g}",
            "gamma 0 is cross-entropy; p of a weighted loss, exp(-w·nll), is not p",
            x,
            LABELS,
            dtypes=dtypes,
            split=gamma == 2.0,
            see=(WEIGHED_P,),
        )
        ends = put(
            x, (0, 0, INF), (1, 2, INF), (2, 2, -INF), (3, 0, -INF), (4, 4, 1e4), (5, 0, NAN)
        )
        yield _rows(
            gamma,
            f"gamma {gamma:g}, p = 0 and 1",
            POWER,
            ends,
            LABELS,
            see=see,
            dtypes=WIDE if main else ONE,
            quick=gamma == 0.5,
        )


def _extremes() -> Iterator[Case]:
    x = logits(6, 5, seed=4)
    wrong = put(x, *((i, LABELS[i], -v) for i, v in enumerate((10, 17, 40, 90, 200, 1000))))
    yield _rows(
        2.0, "certain of another class", "log p of p = 0, where the loss is the gap", wrong, LABELS
    )
    yield _rows(
        2.0,
        "masked",
        "a masked class has p = 0, and no 0·inf",
        put(x, (0, 1, -INF), (1, 0, -INF), (1, 2, -INF), (5, 4, -INF)),
        LABELS,
    )
    yield _rows(
        2.0,
        "no possible class",
        "NaN in that row and no other",
        put(x, *((1, j, -INF) for j in range(5))),
        LABELS,
    )
    yield _rows(
        2.0,
        "+inf shared",
        "+inf logits share the whole probability",
        put(x, (0, 0, INF), (0, 3, INF), (1, 1, INF), (1, 0, -INF)),
        LABELS,
    )
    yield _rows(
        2.0,
        "ties",
        "the derivative of a maximum at a tie is not the tail's",
        np.repeat(x[:, :1], 5, axis=1),
        LABELS,
    )
    yield _rows(
        2.0,
        "offset 10000",
        "exp overflows where the maximum is not subtracted",
        x + 10000.0,
        LABELS,
    )
    yield _rows(
        2.0,
        "ignored rows of NaN",
        "absent whatever stands there",
        put(x, (1, 0, NAN), (3, 2, INF)),
        np.array([0, -100, 2, -100, 4, 0]),
    )
    yield _rows(
        2.0,
        "bad labels",
        "a label of -1 wraps to the last class",
        x,
        np.array([0, -1, 2, 5, 4, 0]),
        see=(f"{TORCH}/66872",),
    )
    for layout in ("strided", "readonly"):
        yield _rows(
            2.0,
            f"layout {layout}",
            "flat indexing reads another row's label",
            x,
            LABELS,
            layout=layout,
        )


def _targets() -> Iterator[Case]:
    x, t = logits(6, 5, seed=4), soft(6, 5, seed=2)
    mixed = partial(_rows, 2.0, to_targets=True)
    yield mixed(
        "soft",
        "row = Σ q (1-p)^γ nll, class by class, and not (1 - Σ q p)^γ of the sum",
        x,
        t,
        dtypes=DTYPES,
    )
    yield mixed("one-hot", "an index is its one-hot row", x, np.eye(5)[LABELS])
    yield mixed("one-hot, tail", LOST, confident(GAPS["18 to 40"]), np.eye(5)[LABELS])
    yield mixed(
        "soft, 0 log 0",
        "a masked class with target 0 adds nothing to either gradient",
        np.where((t == 0) & KEEP[:, None], -INF, x),
        t,
    )
    yield mixed(
        "soft, masked target",
        "a target on a masked class costs +inf, not NaN",
        put(x, (1, int(np.argmax(t[1])), -INF)),
        t,
    )
    yield _rows(
        0.5, "gamma 0.5, soft", POWER, put(x, (0, 0, 90.0), (1, 1, -INF)), t, to_targets=True
    )

    yield _rows(
        0.125,
        "gamma 0.125, subnormal 1 - p",
        "(1-p)^-0.875 overflows: inf·0",
        confident((88, 90, 95, 100, 103, 740)),
        np.eye(5)[LABELS],
        to_targets=True,
    )


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
    yield _rows(0.5, "one class", "p = 1 and 1 - p = 0, exactly", x[:, :1], np.zeros(6, np.int64))
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
