"""nll_loss and log_loss: log-probabilities or probabilities are given."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from ..model import DTYPES, Case
from .arrays import INF, NAN, ONE, WIDE, soft
from .given import LABELS, UPSTREAM, at_labels, family, log_probs, probs, put
from .making import NONE, github, keras, made, sklearn

LOGS, X = log_probs(), probs()


def cases() -> Iterator[Case]:
    """Yield both families."""
    yield from family("nll", "nll_loss", LOGS, -INF)
    yield from _nll_errors()
    yield from _nll()
    yield from family("log loss", "log_loss", X, 0.0)
    yield from _log_loss()


def _nll_errors() -> Iterator[Case]:
    wrong = "a wrong argument broadcasts, and a number comes out"
    case = partial(made, "nll", loss="nll_loss", x=LOGS, targets=LABELS, dtypes=ONE)
    case = partial(case, error=ValueError)
    bad = partial(case, names="targets")
    yield bad("error: labels' shape", wrong, targets=LABELS[:, None])
    yield bad("error: soft targets' shape", wrong, targets=soft(6, 4))
    yield bad("error: bool targets", "True is not class 1", targets=LABELS > 0, error=TypeError)
    for name, value, kind in [
        ("weight", np.ones(4), ValueError),
        ("sample_weight", np.ones(5), ValueError),
        ("where", np.ones(6), TypeError),
        ("label_smoothing", 1.5, ValueError),
        ("reduction", "average", ValueError),
        ("axis", 2, ValueError),
        ("ignore_index", 0.5, TypeError),
    ]:
        yield case(f"error: {name}", wrong, **{name: value}, error=kind, names=name)


def _nll() -> Iterator[Case]:
    rows = partial(made, "nll", loss="nll_loss", **NONE, upstream=UPSTREAM, targets=LABELS)
    tail = -np.exp(-np.array([5.0, 17.0, 30.0, 50.0, 70.0, 82.0]))
    reason = "exp and log again lose a log-probability of -4e-8"
    yield rows("near certainty", reason, x=at_labels(LOGS, tail))
    wide = partial(rows, dtypes=WIDE)
    far = (-82.0, -1000.0, -1e6, -1e30, 0.0, -3.0)
    yield wide("far", "a loss is not clipped at 100", x=at_labels(LOGS, far))
    yield wide("positive", "what is given need not be normalised: it is taken as it is", x=LOGS + 2)


def _log_loss() -> Iterator[Case]:
    case = partial(made, "log loss", loss="log_loss", x=X, targets=LABELS, dtypes=WIDE)
    rows = partial(case, **NONE, upstream=UPSTREAM)
    reason = "-log(1 - 2^-24) is 6e-8; clipping at 1 - 1e-7 makes it 1e-7, with gradient 0"
    near = at_labels(X, 1 - 2.0 ** -np.array([3, 8, 11, 20, 24, 24]))
    yield rows("near certainty", reason, x=near, see=keras(9664), quick=True, dtypes=DTYPES)
    reason = "-log 2^-60 is 41, not the 16 that clipping at 1e-7 leaves"
    given = partial(rows, x=at_labels(X, (2.0**-10, 2.0**-24, 2.0**-60, 2.0**-100, 1.0, 0.75)))
    yield given("far", reason, see=github("tensorflow/tensorflow/pull/41595"))
    reason = "rows are taken as they are, and not divided by their sum"
    yield rows("not normalised", reason, x=X * 2)
    yield rows("negative", "the logarithm of a negative number is NaN", x=put(X, (1, 1, -0.25)))
    clipped = partial(rows, eps=2.0**-6)
    ends = put(X, (0, 0, 0), (1, 1, 1), (2, 2, 2.0**-7), (3, 3, 2.0**-6), (4, 4, 1 - 2.0**-7))
    yield clipped("eps", "clipped into [eps, 1 - eps], with gradient 0 where clipped", x=ends)
    reason = "a comparison with NaN is false: clipping must not make it a number"
    yield clipped("eps, NaN", reason, x=put(X, (1, 1, NAN), (0, 3, NAN)))
    reason = "the gradient to a target is the clipped logarithm"
    yield clipped("eps, soft", reason, x=ends, targets=soft(6, 5, seed=2), to_targets=True)
    reason = "1 - 1e-15 is 1 in float32: log(1 - p) of it was -inf, and 0·inf NaN"
    given = partial(rows, x=put(X, (0, 0, 1), (1, 1, 0), (2, 1, 1)))
    yield given("eps below the dtype's", reason, eps=1e-15, see=sklearn(24315) + keras(377))
    wrong = partial(case, reason="clipped into an interval that is none", names="eps", dtypes=ONE)
    yield wrong("error: eps 0.75", eps=0.75, error=ValueError)
    yield wrong("error: eps negative", eps=-1e-7, error=ValueError)
    yield wrong("error: eps a word", eps="auto", error=TypeError)
