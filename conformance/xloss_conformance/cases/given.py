"""What the cases of nll_loss and log_loss have in common: what they take is given, no logits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np

from ..model import DTYPES, Array, Case
from .arrays import INF, NAN, ONE, WIDE, grid, logits, soft
from .making import NONE, made, sklearn, torch

LABELS = np.array([0, 1, 2, 3, 4, 0])
WEIGHT = np.array([1.0, 0.5, 2.0, 0.25, 1.5])
SAMPLE = np.array([1.0, 2.0, 0.5, 0.0, 3.0, 1.25])
KEEP = np.array([True, True, False, True, True, True])
UPSTREAM = np.array([1.0, -2.0, 0.5, 3.0, 0.25, -1.5])
IGNORED = np.array([0, -100, 2, -100, 4, 0])
BAD = np.array([0, -1, 2, 5, 4, 0])

Make = Callable[..., Case]  # a partial of `made`
ROWS: dict[str, Any] = {"sample_weight": SAMPLE, "where": KEEP}
NOTHING = "0/0 is NaN; the mean over no row is 0"
WEIGHTLESS = "all labels of weight 0: 0, not 0/0, though a row be NaN"
LEFT_OUT = "NaN in rows left out by where or by weight 0"


def put(x: Array, *entries: tuple[float, ...]) -> Array:
    """Return a copy with entries in it: (row, class, value), or (place, value)."""
    out = x.copy()
    for *at, value in entries:
        out[tuple(map(int, at))] = value
    return out


def at_labels(x: Array, values: Iterable[float]) -> Array:
    """Return a copy with one value a row, where its label is."""
    return put(x, *((i, LABELS[i], value) for i, value in enumerate(values)))


def log_probs(rows: int = 6, classes: int = 5) -> Array:
    z = logits(rows, classes, seed=1)
    return grid(z - np.log(np.exp(z).sum(-1, keepdims=True)))


def probs(rows: int = 6, classes: int = 5) -> Array:
    """Probabilities in 128ths, none of them 0."""
    return np.asarray((soft(rows, classes, seed=1) * (128 - classes)).round() + 1) / 128


def family(name: str, loss: str, x: Array, never: float) -> Iterator[Case]:
    """Yield cases of either; `never` is how a probability of 0 stands there."""
    case = partial(made, name, loss=loss, x=x, targets=LABELS, dtypes=WIDE)
    rows = partial(case, **NONE, upstream=UPSTREAM)
    t = soft(6, 5, seed=2)
    yield case("mean", "the plain call")
    reason = "a gradient scaled by one upstream number is wrong where each has its own"
    yield rows("rows", reason, split=True, quick=True)
    for layout in ("F", "reversed"):
        yield rows(f"layout {layout}", "flat indexing reads another row's label", layout=layout)
    reason = "0·(-inf) is NaN: a class of probability 0 adds nothing where the target is elsewhere"
    yield rows("never, elsewhere", reason, x=put(x, (0, 1, never), (1, 0, never), (5, 4, never)))
    reason = "certainty of the wrong answer costs +inf; clipping hides it"
    see = sklearn(17399)
    yield rows("never, at the label", reason, x=put(x, (1, 1, never), (4, 4, never)), see=see)
    reason = "with class indices only the label's entry of a row is read"
    given = partial(rows, x=put(x, (0, 1, NAN), (2, 4, NAN), (5, 3, NAN)))
    yield given("NaN that no term reads", reason, quick=True)
    reason = "a NaN must not be clipped away, nor reach another row"
    yield rows("NaN at the label", reason, x=put(x, (1, 1, NAN)))
    reason = "an ignored row contributes exactly nothing, whatever stands there"
    given = partial(rows, x=put(x, (1, 0, NAN), (1, 1, NAN), (3, 2, INF)))
    yield given("ignored rows of NaN", reason, targets=IGNORED, see=torch(20406), quick=True)
    bad = partial(rows, targets=BAD)
    reason = "a label of -1 wraps to the last class; one of C reads the next row"
    yield bad("bad labels", reason, see=torch(39769, 66872))
    reason = "with validate=False the row is NaN, never another class's loss"
    yield bad("bad labels, not read", reason, validate=False, see=torch(66076))
    one = partial(rows, dtypes=ONE)
    given = partial(one, targets=np.array([0, 156, 2, 255, 4, 0], np.uint8))
    yield given("unsigned labels", "156 is not -100, and 2^8 - 1 is not -1", see=torch(89369))
    yield case("all ignored", NOTHING, targets=np.full(6, -100), see=torch(70348, 116349))
    reason, see = "0/0 is NaN, and a maximum over nothing raises", torch(51910)
    yield case("empty", reason, x=x[:0], targets=LABELS[:0], dtypes=ONE, see=see)
    alone = np.array([0, 0, -100, 0, 0, 0])
    yield one("one class", "nothing else to spread to", x=x[:, :1], targets=alone)

    # Soft targets, with the gradient to them.
    mixed = partial(rows, targets=t, to_targets=True)
    reason = "the gradient to soft targets is each class's own loss"
    yield mixed("soft", reason, quick=True, dtypes=DTYPES)
    yield mixed("one-hot", "an index is its one-hot row, tail included", targets=np.eye(5)[LABELS])
    reason = "0·(-inf) is NaN, in the gradient to the targets too"
    yield mixed("soft, 0 log 0", reason, x=np.where(t == 0, never, x))
    reason = "a target on a class of probability 0 costs +inf, not NaN"
    yield mixed("soft, never", reason, x=put(x, (1, int(np.argmax(t[1])), never)))
    given = partial(mixed, x=np.where((t == 0) & KEEP[:, None], NAN, x))
    yield given("soft, NaN that no term reads", "as for an index: a target of 0 reads nothing")
    reason = "a row whose targets are all 0 has no loss"
    yield mixed("soft, nothing", reason, targets=t * KEEP[:, None])

    # Weights and smoothing.
    weighed = partial(case, weight=WEIGHT, **ROWS, dtypes=ONE)
    reason = "the denominator is Σ of the weights of the rows that are there, not their number"
    yield weighed("weighted mean", reason, see=torch(31295, 72047), quick=True)
    nan = put(x, (2, 2, NAN), (3, 3, NAN), (3, 0, NAN))
    yield weighed("weighted mean, absent NaN", LEFT_OUT, x=nan)
    light = partial(weighed, weight=WEIGHT * (WEIGHT != 1.5))
    reason = "a label of weight 0 counts neither above nor below, be its loss infinite or NaN"
    yield light("class weight 0", reason, x=put(x, (4, 4, NAN), (1, 0, never)))
    reason = "0·inf: an infinite loss of weight 0 is absent"
    yield light("class weight 0, never", reason, x=put(x, (4, 4, never)))
    yield light("no row weighs", WEIGHTLESS, x=put(x, (1, 4, NAN)), targets=np.full(6, 4))
    smooth = partial(one, label_smoothing=0.125)
    yield smooth("smoothed", "the target's share is spread over all classes")
    reason = "u is uniform over the possible classes of a row: over an impossible one it costs +inf"
    yield smooth("smoothed, never", reason, x=put(x, (0, 1, never), (1, 0, never), (1, 2, never)))
    nowhere = put(x, *((1, j, never) for j in range(5)))
    yield smooth("smoothed, nothing possible", "NaN in that row and no other", x=nowhere)
    yield smooth("smoothed, NaN", "smoothing reads every class of a row", x=put(x, (1, 3, NAN)))
    every = partial(weighed, label_smoothing=0.125)
    reason = "weights multiply the smoothed target, class by class"
    yield every("sum, all options", reason, reduction="sum", upstream=-2.0, see=torch(104776))
    every = partial(every, targets=t, to_targets=True)
    reason = "the denominator is a function of soft targets: their gradient has a second term"
    yield every("soft mean, all options", reason, dtypes=WIDE)
    reason = "smoothed soft targets under weights"
    yield every("soft rows, all options", reason, **NONE, upstream=UPSTREAM)
    reason = "the count of a global batch in place of this one's"
    yield from of_any_shape(partial(case, dtypes=ONE), x, t, reason)


def of_any_shape(case: Make, x: Array, t: Array, reason: str) -> Iterator[Case]:
    """Yield cases of a denominator that is given, and of other class axes."""
    yield case("normalizer", reason, sample_weight=SAMPLE, normalizer=np.array(16.0))
    reason = "the class axis is the caller's"
    yield case("class axis 0", reason, x=x.T.copy(), targets=t.T.copy(), axis=0, to_targets=True)
    reason = "rows lie before and after the class axis"
    given = partial(case, x=np.stack([x, x[::-1]], axis=-1))
    yield given("class axis 1 of 3", reason, targets=np.stack([LABELS, LABELS], axis=-1), axis=1)
