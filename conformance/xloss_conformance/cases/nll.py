"""nll_loss: log-probabilities are given."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from ..model import Array, Case
from .arrays import INF, ONE, WIDE, soft
from .given import LABELS, NONE, UPSTREAM, family, log_probs, put


def cases() -> list[Case]:
    """Return the family."""
    x = log_probs()
    return [*family("nll", "nll_loss", x, -INF), *_errors(x), *_own(x)]


def _errors(x: Array) -> Iterator[Case]:
    case = partial(Case, "nll", loss="nll_loss", dtypes=ONE)
    wrong = "a wrong argument broadcasts, and a number comes out"
    yield case("error: labels' shape", wrong, x, LABELS[:, None], error=ValueError, names="targets")
    yield case(
        "error: soft targets' shape", wrong, x, soft(6, 4), error=ValueError, names="targets"
    )
    yield case(
        "error: bool targets",
        "True is not class 1",
        x,
        LABELS > 0,
        error=TypeError,
        names="targets",
    )
    for name, value, kind in [
        ("weight", np.ones(4), ValueError),
        ("sample_weight", np.ones(5), ValueError),
        ("where", np.ones(6), TypeError),
        ("label_smoothing", 1.5, ValueError),
        ("reduction", "average", ValueError),
        ("axis", 2, ValueError),
        ("ignore_index", 0.5, TypeError),
    ]:
        yield case(
            f"error: {name}", wrong, x, LABELS, options={name: value}, error=kind, names=name
        )


def _own(x: Array) -> Iterator[Case]:
    rows = partial(Case, "nll", loss="nll_loss", options=NONE, upstream=UPSTREAM)
    tail = np.exp(-np.array([5.0, 17.0, 30.0, 50.0, 70.0, 82.0]))
    yield rows(
        "near certainty",
        "exp and log again lose a log-probability of -4e-8",
        put(x, *((i, LABELS[i], -tail[i]) for i in range(6))),
        LABELS,
    )
    far = (-82.0, -1000.0, -1e6, -1e30, 0.0, -3.0)
    yield rows(
        "far",
        "a loss is not clipped at 100",
        dtypes=WIDE,
        targets=LABELS,
        x=put(x, *((i, LABELS[i], far[i]) for i in range(6))),
    )
    yield rows(
        "positive",
        "what is given need not be normalised: it is taken as it is",
        x + 2,
        LABELS,
        dtypes=WIDE,
    )
