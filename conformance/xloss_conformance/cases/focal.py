"""focal_loss: cross-entropy times (1 - p)^γ, in which 1 - p must not cancel."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from ..model import DTYPES, Array, Case
from .arrays import INF, NAN, ONE, WIDE, grid, logits, soft
from .given import GITHUB, KEEP, LABELS, TORCH, UPSTREAM, put

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
    """Return those about γ, extremes and targets."""
    return [*_gammas(), *_extremes(), *_targets()]


def rows(gamma: float, label: str, reason: str, x: Array, t: Array, **more: Any) -> Case:
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
            yield rows(
                gamma,
                f"gamma {gamma:g}, gaps {name}",
                POWER if gamma < 1 else LOST,
                confident(GAPS[name]),
                LABELS,
                see=see,
                dtypes=dtypes,
                quick=(gamma, name) in [(2.0, "18 to 40"), (0.5, "50 to 82")],
            )
        yield rows(
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
        yield rows(
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
    yield rows(
        2.0, "certain of another class", "log p of p = 0, where the loss is the gap", wrong, LABELS
    )
    yield rows(
        2.0,
        "masked",
        "a masked class has p = 0, and no 0·inf",
        put(x, (0, 1, -INF), (1, 0, -INF), (1, 2, -INF), (5, 4, -INF)),
        LABELS,
    )
    yield rows(
        2.0,
        "no possible class",
        "NaN in that row and no other",
        put(x, *((1, j, -INF) for j in range(5))),
        LABELS,
    )
    yield rows(
        2.0,
        "+inf shared",
        "+inf logits share the whole probability",
        put(x, (0, 0, INF), (0, 3, INF), (1, 1, INF), (1, 0, -INF)),
        LABELS,
    )
    yield rows(
        2.0,
        "ties",
        "the derivative of a maximum at a tie is not the tail's",
        np.repeat(x[:, :1], 5, axis=1),
        LABELS,
    )
    yield rows(
        2.0,
        "offset 10000",
        "exp overflows where the maximum is not subtracted",
        x + 10000.0,
        LABELS,
    )
    yield rows(
        2.0,
        "ignored rows of NaN",
        "absent whatever stands there",
        put(x, (1, 0, NAN), (3, 2, INF)),
        np.array([0, -100, 2, -100, 4, 0]),
    )
    yield rows(
        2.0,
        "bad labels",
        "a label of -1 wraps to the last class",
        x,
        np.array([0, -1, 2, 5, 4, 0]),
        see=(f"{TORCH}/66872",),
    )
    for layout in ("strided", "readonly"):
        yield rows(
            2.0,
            f"layout {layout}",
            "flat indexing reads another row's label",
            x,
            LABELS,
            layout=layout,
        )


def _targets() -> Iterator[Case]:
    x, t = logits(6, 5, seed=4), soft(6, 5, seed=2)
    mixed = partial(rows, 2.0, to_targets=True)
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
    yield rows(
        0.5, "gamma 0.5, soft", POWER, put(x, (0, 0, 90.0), (1, 1, -INF)), t, to_targets=True
    )

    yield rows(
        0.125,
        "gamma 0.125, subnormal 1 - p",
        "(1-p)^-0.875 overflows: inf·0",
        confident((88, 90, 95, 100, 103, 740)),
        np.eye(5)[LABELS],
        to_targets=True,
    )
