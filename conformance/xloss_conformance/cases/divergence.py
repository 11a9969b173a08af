"""kl_div, and the entropy of a softmax."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from ..model import DTYPES, Array, Case
from .arrays import INF, NAN, ONE, WIDE, grid, logits, soft
from .given import GITHUB, KEEP, ROWS, SAMPLE, TORCH, UPSTREAM, log_probs, put

NONE: dict[str, Any] = {"reduction": "none"}
LOG: dict[str, Any] = {"reduction": "none", "log_target": True}
OPTAX = f"{GITHUB}/google-deepmind/optax/pull/1786"
GAPS = (5, 12, 17, 30, 50, 82)


def cases() -> list[Case]:
    """Return both families."""
    return [*_kl(), *_kl_options(), *_entropy()]


def _kl() -> Iterator[Case]:
    x, t = log_probs(), soft(6, 5, seed=2)
    inner = (t * 59).round() + 1  # none of them 0
    inner = inner / 64
    rows = partial(
        Case, "kl", loss="kl_div", options=NONE, upstream=UPSTREAM, to_targets=True, dtypes=WIDE
    )
    absent = "0·log 0 is 0: a class with target 0 is absent, from the gradient to it too"
    yield rows(
        "rows", absent, x, t, dtypes=DTYPES, split=True, quick=True, see=(f"{TORCH}/89558", OPTAX)
    )
    yield rows("no zeros", "the gradient to a target is log t - log q + 1", x, inner)
    for layout in ("F", "reversed"):
        yield rows(
            f"layout {layout}",
            "flat memory in another order than the targets'",
            x,
            t,
            layout=layout,
        )
    yield rows(
        "one-hot",
        "of a one-hot target it is the negative log-likelihood",
        x,
        np.eye(5)[[0, 1, 2, 3, 4, 0]],
    )
    yield rows(
        "masked",
        "0·(0 - (-inf)): a masked class with target 0",
        np.where(t == 0, -INF, x),
        t,
        quick=True,
        see=(OPTAX,),
    )
    yield rows(
        "masked target",
        "a target on a masked class costs +inf, not NaN",
        put(x, (1, int(np.argmax(t[1])), -INF)),
        t,
    )
    yield rows(
        "NaN that no term reads",
        "a class with target 0 is not read: a NaN there is none in the loss",
        np.where((t == 0) & KEEP[:, None], NAN, x),
        t,
    )
    yield rows(
        "NaN",
        "NaN in that row's loss and no other's; the gradient to log-probabilities "
        "is -t and reads none",
        put(x, (1, int(np.argmax(t[1])), NAN)),
        t,
    )
    yield rows(
        "negative target",
        "log of a negative target is NaN: 0 in its place hides a bug",
        x,
        put(t, (1, 2, -0.25)),
        see=(f"{TORCH}/69230",),
    )
    yield rows(
        "tiny targets",
        "t log t of 2^-100",
        x,
        put(inner, *((i, i % 5, 2.0**-100) for i in range(6))),
    )
    near = np.log(inner.astype(np.float32)).astype(np.float64)
    yield rows("p = q", "terms of either sign meet in a sum near 0", near, inner)
    tail = put(np.full((6, 5), -90.0), *((i, 0, -np.exp(-float(g))) for i, g in enumerate(GAPS)))
    yield rows(
        "near certainty",
        "-log q of 1 - e^-17 is e^-17, and is lost by exp and log again",
        tail,
        np.eye(5)[[0] * 6],
        dtypes=DTYPES,
    )
    logs = partial(rows, options=LOG)
    log_t = grid(np.log(inner))
    yield logs(
        "log_target",
        "targets given as logarithms are not logged again",
        x,
        log_t,
        see=(f"{TORCH}/34536",),
    )
    yield logs(
        "log_target, -inf",
        "exp(-inf)·(-inf - log q) is 0·inf; both -inf give inf - inf",
        put(x, (0, 1, -INF), (2, 3, -INF)),
        put(log_t, (0, 1, -INF), (1, 1, -INF), (2, 3, -INF), (4, 0, -INF)),
        quick=True,
        see=(OPTAX,),
    )
    yield logs("log_target, masked target", "+inf, not NaN", put(x, (1, 1, -INF)), log_t)
    yield logs(
        "log_target, NaN that no term reads",
        "as for a target of 0",
        put(x, (0, 1, NAN)),
        put(log_t, (0, 1, -INF)),
    )


def _kl_options() -> Iterator[Case]:
    x, t = log_probs(), soft(6, 5, seed=2)
    case = partial(Case, "kl", loss="kl_div", dtypes=ONE)
    yield case(
        "mean",
        'over rows, as torch\'s "batchmean": its "mean" divides by the classes too',
        x,
        t,
        to_targets=True,
        dtypes=DTYPES,
        quick=True,
        see=(f"{TORCH}/2259", f"{GITHUB}/facebookresearch/deit/issues/61"),
    )
    weighed = partial(case, options=ROWS, to_targets=True, dtypes=WIDE)
    yield weighed(
        "weighted mean",
        "the denominator is the weight of the rows that are there, and no function of the targets",
        x,
        t,
    )
    yield weighed(
        "weighted mean, absent NaN",
        "NaN in rows left out by where or by weight 0",
        put(x, (2, 2, NAN), (3, 3, INF)),
        put(t, (2, 0, NAN), (3, 1, -1.0)),
    )
    yield weighed(
        "all absent",
        "0/0 is NaN; the mean over no row is 0",
        put(x, (0, 0, NAN)),
        t,
        options={"sample_weight": SAMPLE, "where": SAMPLE == 0},
    )
    yield case("empty", "0/0 is NaN", x[:0], t[:0], see=(f"{TORCH}/51910",))
    yield case(
        "one class",
        "log 1 - log 1",
        np.zeros((6, 1)),
        np.ones((6, 1)),
        to_targets=True,
        options=NONE,
        upstream=UPSTREAM,
    )
    yield case("sum", "no denominator", x, t, options={**ROWS, "reduction": "sum"}, upstream=-2.0)
    yield case(
        "normalizer",
        "the count of a global batch in place of this one's",
        x,
        t,
        options={**ROWS, "normalizer": np.array(16.0)},
    )
    yield case(
        "class axis 0",
        "the class axis is the caller's",
        x.T.copy(),
        t.T.copy(),
        options={"axis": 0},
        to_targets=True,
    )
    wrong = partial(
        case, reason="it broadcasts, and a number comes out", x=x, targets=t, error=ValueError
    )
    yield wrong(
        "error: class indices", targets=np.zeros(6, np.int64), error=TypeError, names="targets"
    )
    yield wrong("error: targets' shape", targets=t[:1], names="targets")
    yield wrong("error: reduction", options={"reduction": "batchmean"}, names="reduction")
    yield wrong("error: log_target", options={"log_target": 1}, error=TypeError, names="log_target")


def _entropy() -> Iterator[Case]:
    x = logits(6, 5, seed=5)
    case = partial(Case, "entropy", targets=None, loss="entropy", upstream=UPSTREAM, dtypes=WIDE)
    yield case(
        "rows",
        "the gradient is p (nll - H), whose factors cancel",
        x,
        dtypes=DTYPES,
        split=True,
        quick=True,
    )
    for layout in ("strided", "readonly"):
        yield case(f"layout {layout}", "flat memory in another order", x, layout=layout)
    gaps = np.stack([np.array([0.0, -g, -g - 1, -g - 2, -2 * g]) for g in GAPS])
    yield case("gaps 5 to 82", "H is g·e^-g: lost where 1 - p is", gaps, dtypes=DTYPES, quick=True)
    masked = put(x, (0, 1, -INF), (1, 0, -INF), (1, 2, -INF), (5, 4, -INF))
    yield case(
        "masked",
        "p log p of p = 0 is 0·(-inf), NaN: a masked class adds nothing",
        masked,
        quick=True,
        see=(
            f"{TORCH}/40553",
            f"{GITHUB}/tensorflow/probability/issues/241",
            f"{GITHUB}/huggingface/trl/issues/7221",
        ),
    )
    yield case(
        "underflow",
        "p of e^-200 is 0 in float32, its logarithm -200",
        put(x, (0, 1, -200.0), (1, 1, -1000.0), (2, 2, -1e30)),
    )
    alone = put(np.full((6, 5), -INF), *((i, i % 5, 1.0) for i in range(6)))
    yield case("one possible class", "H = 0, and no -0·inf", alone)
    yield case(
        "no possible class",
        "NaN in that row and no other",
        put(x, *((1, j, -INF) for j in range(5))),
    )
    yield case(
        "+inf",
        "+inf logits share the whole probability: log 2 for two of them",
        put(x, (0, 0, INF), (1, 1, INF), (1, 3, INF), (2, 1, -INF)),
    )
    yield case("NaN", "NaN in that row and no other", put(x, (1, 1, NAN)))
    yield case(
        "ties", "uniform: H = log 5, and a gradient of exactly 0", np.repeat(x[:, :1], 5, axis=1)
    )
    yield case("offset 10000", "exp overflows where the maximum is not subtracted", x + 10000.0)
    shapes = partial(case, upstream=1.0, dtypes=ONE)
    yield shapes("one class", "H = 0", x[:, :1])
    yield shapes("empty", "no row, and no maximum", x[:0])
    yield shapes("class axis 0", "the class axis is the caller's", _turned(x), options={"axis": 0})
    yield shapes(
        "class axis 1 of 3",
        "rows lie before and after the class axis",
        np.stack([x, x[::-1]], axis=-1),
        options={"axis": 1},
    )
    yield shapes(
        "error: axis",
        "the last axis in place of it",
        x,
        options={"axis": 2},
        error=ValueError,
        names="axis",
    )
    yield shapes(
        "error: no axis", "nothing to sum over", np.array(1.0), error=ValueError, names="logits"
    )


def _turned(x: Array) -> Array:
    return np.ascontiguousarray(x.T)
