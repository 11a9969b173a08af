"""nll_loss: log-probabilities are given."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from ..model import Case
from .arrays import INF, ONE, WIDE, soft
from .given import LABELS, UPSTREAM, at_labels, family, log_probs
from .making import NONE, made

X = log_probs()


def cases() -> list[Case]:
    """Return the family."""
    return [*family("nll", "nll_loss", X, -INF), *_errors(), *_own()]


def _errors() -> Iterator[Case]:
    wrong = "a wrong argument broadcasts, and a number comes out"
    case = partial(made, "nll", loss="nll_loss", x=X, targets=LABELS, dtypes=ONE, error=ValueError)
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


def _own() -> Iterator[Case]:
    rows = partial(made, "nll", loss="nll_loss", **NONE, upstream=UPSTREAM, targets=LABELS)
    tail = -np.exp(-np.array([5.0, 17.0, 30.0, 50.0, 70.0, 82.0]))
    reason = "exp and log again lose a log-probability of -4e-8"
    yield rows("near certainty", reason, x=at_labels(X, tail))
    wide = partial(rows, dtypes=WIDE)
    far = (-82.0, -1000.0, -1e6, -1e30, 0.0, -3.0)
    yield wide("far", "a loss is not clipped at 100", x=at_labels(X, far))
    reason = "what is given need not be normalised: it is taken as it is"
    yield wide("positive", reason, x=X + 2)
