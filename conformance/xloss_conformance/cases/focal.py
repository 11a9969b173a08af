"""focal_loss: cross-entropy times (1 - p)^γ, in which 1 - p must not cancel."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from ..model import DTYPES, Array, Case
from . import given as shared
from .arrays import INF, NAN, ONE, WIDE, grid, logits, soft
from .given import BAD, IGNORED, KEEP, LABELS, ROWS, UPSTREAM, WEIGHT, put
from .making import NONE, github, made, torch

GAMMAS = (0.0, 0.5, 1.0, 2.0, 5.0)
GAPS = {
    "5 to 17": (5, 8, 10, 12, 16, 17),
    "18 to 40": (18, 20, 25, 30, 36, 40),
    "50 to 82": (50, 60, 70, 75, 80, 82),
}
LOST = "1 - p is 0 in float32 from a gap of 17 on: loss and gradient are lost with it"
POWER = "(1 - p)^(γ-1) at p = 1 is 0^-1 below γ = 1: 0·inf, a NaN gradient"
WEIGHED_P = github("gokulprasadthekkel/pytorch-multi-class-focal-loss/issues/1")
NAN_BELOW_1 = github("liuyuisanai/Focal-Loss/issues/11", "fizyr/keras-retinanet/issues/706")
X = logits(6, 5, seed=4)
# Each of the cases that have nothing else has these arguments, γ = 2 and no reduction.
options = partial(made, "focal", loss="focal_loss", x=X, targets=LABELS, dtypes=WIDE)
rows = partial(options, **NONE, gamma=2.0, upstream=UPSTREAM)


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


def _gammas() -> Iterator[Case]:
    ends = put(X, (0, 0, INF), (1, 2, INF), (2, 2, -INF), (3, 0, -INF), (4, 4, 1e4), (5, 0, NAN))
    for gamma in GAMMAS:
        main = gamma in (0.5, 2.0)
        dtypes = DTYPES if gamma == 2.0 else WIDE if main else ONE
        case = partial(rows, gamma=gamma, dtypes=dtypes, see=NAN_BELOW_1 if gamma < 1 else ())
        for name in GAPS if main else ("18 to 40",):
            quick = (gamma, name) in [(2.0, "18 to 40"), (0.5, "50 to 82")]
            given = partial(case, x=confident(GAPS[name]), quick=quick)
            yield given(f"gamma {gamma:g}, gaps {name}", POWER if gamma < 1 else LOST)
        reason = "gamma 0 is cross-entropy; p of a weighted loss, exp(-w·nll), is not p"
        yield case(f"gamma {gamma:g}", reason, split=gamma == 2.0, see=WEIGHED_P)
        name = f"gamma {gamma:g}, p = 0 and 1"
        yield case(name, POWER, x=ends, dtypes=WIDE if main else ONE, quick=gamma == 0.5)


def _extremes() -> Iterator[Case]:
    wrong = put(X, *((i, LABELS[i], -v) for i, v in enumerate((10, 17, 40, 90, 200, 1000))))
    yield rows("certain of another class", "log p of p = 0, where the loss is the gap", x=wrong)
    masked = put(X, (0, 1, -INF), (1, 0, -INF), (1, 2, -INF), (5, 4, -INF))
    yield rows("masked", "a masked class has p = 0, and no 0·inf", x=masked)
    nowhere = put(X, *((1, j, -INF) for j in range(5)))
    yield rows("no possible class", "NaN in that row and no other", x=nowhere)
    shared = put(X, (0, 0, INF), (0, 3, INF), (1, 1, INF), (1, 0, -INF))
    yield rows("+inf shared", "+inf logits share the whole probability", x=shared)
    ties = np.repeat(X[:, :1], 5, axis=1)
    yield rows("ties", "the derivative of a maximum at a tie is not the tail's", x=ties)
    yield rows("offset 10000", "exp overflows where the maximum is not subtracted", x=X + 10000.0)
    nan = put(X, (1, 0, NAN), (3, 2, INF))
    yield rows("ignored rows of NaN", "absent whatever stands there", x=nan, targets=IGNORED)
    yield rows("bad labels", "a label of -1 wraps to the last class", targets=BAD, see=torch(66872))
    for layout in ("strided", "readonly"):
        yield rows(f"layout {layout}", "flat indexing reads another row's label", layout=layout)


def _targets() -> Iterator[Case]:
    t, hot = soft(6, 5, seed=2), np.eye(5)[LABELS]
    mixed = partial(rows, targets=t, to_targets=True)
    reason = "row = Σ q (1-p)^γ nll, class by class, and not (1 - Σ q p)^γ of the sum"
    yield mixed("soft", reason, dtypes=DTYPES)
    yield mixed("one-hot", "an index is its one-hot row", targets=hot)
    yield mixed("one-hot, tail", LOST, x=confident(GAPS["18 to 40"]), targets=hot)
    reason = "a masked class with target 0 adds nothing to either gradient"
    yield mixed("soft, 0 log 0", reason, x=np.where((t == 0) & KEEP[:, None], -INF, X))
    reason = "a target on a masked class costs +inf, not NaN"
    yield mixed("soft, masked target", reason, x=put(X, (1, int(np.argmax(t[1])), -INF)))
    yield mixed("gamma 0.5, soft", POWER, gamma=0.5, x=put(X, (0, 0, 90.0), (1, 1, -INF)))
    given = partial(mixed, gamma=0.125, x=confident((88, 90, 95, 100, 103, 740)))
    yield given("gamma 0.125, subnormal 1 - p", "(1-p)^-0.875 overflows: inf·0", targets=hot)


def _options() -> Iterator[Case]:
    t = soft(6, 5, seed=2)
    yield options("default", "γ = 2, the mean over the rows that are there")
    yield options("all ignored", shared.NOTHING, targets=np.full(6, -100), see=torch(70348))
    case = partial(options, dtypes=ONE)
    yield case("empty", "0/0 is NaN", x=X[:0], targets=LABELS[:0])
    alone = {"x": X[:, :1], "targets": LABELS * 0, "gamma": 0.5}
    yield rows("one class", "p = 1 and 1 - p = 0, exactly", **alone)
    weighed = partial(case, weight=WEIGHT, **ROWS)
    see = github("mathiaszinnen/focal_loss_torch/issues/13", "marcdcfischer/PUNet/issues/1")
    yield weighed("weighted mean", "a class weight applied twice, or inside p", quick=True, see=see)
    yield weighed("weighted mean, absent NaN", shared.LEFT_OUT, x=put(X, (2, 2, NAN), (3, 3, NAN)))
    light = partial(weighed, weight=WEIGHT * (WEIGHT != 1.5))
    yield light("no row weighs", shared.WEIGHTLESS, x=put(X, (1, 4, NAN)), targets=np.full(6, 4))
    smooth = partial(case, **NONE, label_smoothing=0.125, upstream=UPSTREAM)
    yield smooth("smoothed", "the mixture over classes, each with its own (1-p)^γ")
    masked = put(X, (0, 1, -INF), (1, 0, -INF), (1, 2, -INF))
    yield smooth("smoothed, masked", "no share for a masked class", x=masked)
    every = partial(weighed, label_smoothing=0.125, gamma=0.5)
    yield every("sum, all options", "every option at once", reduction="sum", upstream=-2.0)
    reason = "the denominator is a function of soft targets"
    yield every("soft mean, all options", reason, targets=t, to_targets=True, dtypes=WIDE)
    capped = partial(case, softcap=5.0, **NONE, upstream=UPSTREAM)
    yield capped("softcap", "tanh's derivative as 1 - tanh² is 0 from 10 on", x=X * 8)
    masked = put(X, (0, 1, -INF), (1, 0, -INF))
    yield capped("softcap, masked", "c·tanh(-inf/c) is -c: the masked class comes back", x=masked)
    reason = "the number of objects of the whole batch in place of the rows"
    yield from shared.of_any_shape(case, X, t, reason)


def _errors() -> Iterator[Case]:
    wrong = "a wrong argument broadcasts, and a number comes out"
    case = partial(options, dtypes=ONE, error=ValueError)
    gamma = partial(case, names="gamma")
    yield gamma("error: gamma", "(1-p)^-1 is infinite where it should be 0", gamma=-1.0)
    yield gamma("error: gamma a word", wrong, gamma="2", error=TypeError)
    yield case("error: softcap", "a bound of 0", softcap=0.0, names="softcap")
    yield case("error: labels' shape", wrong, targets=LABELS[:, None], names="targets")
    yield case("error: weight", wrong, weight=np.ones(6), names="weight")
