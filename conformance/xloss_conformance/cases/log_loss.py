"""log_loss: probabilities are given."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from ..model import Array, Case
from .arrays import NAN, ONE, WIDE, soft
from .given import GITHUB, KERAS, LABELS, NONE, SKLEARN, UPSTREAM, family, probs, put


def cases() -> list[Case]:
    """Return the family."""
    x = probs()
    return [*family("log loss", "log_loss", x, 0.0), *_own(x)]


def _own(x: Array) -> Iterator[Case]:
    rows = partial(Case, "log loss", loss="log_loss", options=NONE, upstream=UPSTREAM)
    near = 1 - 2.0 ** -np.array([3, 8, 11, 20, 24, 24])
    yield rows(
        "near certainty",
        "-log(1 - 2^-24) is 6e-8, and clipping into [1e-7, 1 - 1e-7] "
        "makes it 1e-7, with gradient 0",
        targets=LABELS,
        x=put(x, *((i, LABELS[i], near[i]) for i in range(6))),
        see=(f"{KERAS}/9664",),
        quick=True,
    )
    far = (2.0**-10, 2.0**-24, 2.0**-60, 2.0**-100, 1.0, 0.75)
    yield rows(
        "far",
        "-log 2^-60 is 41, not the 16 that clipping at 1e-7 leaves",
        dtypes=WIDE,
        x=put(x, *((i, LABELS[i], far[i]) for i in range(6))),
        targets=LABELS,
        see=(f"{GITHUB}/tensorflow/tensorflow/pull/41595",),
    )
    yield rows(
        "not normalised",
        "rows are taken as they are, and not divided by their sum",
        x * 2,
        LABELS,
        dtypes=WIDE,
    )
    yield rows(
        "negative",
        "the logarithm of a negative number is NaN",
        put(x, (1, 1, -0.25)),
        LABELS,
        dtypes=WIDE,
    )
    clipped = partial(rows, options={**NONE, "eps": 2.0**-6}, dtypes=WIDE)
    ends = put(x, (0, 0, 0), (1, 1, 1), (2, 2, 2.0**-7), (3, 3, 2.0**-6), (4, 4, 1 - 2.0**-7))
    yield clipped("eps", "clipped into [eps, 1 - eps], with gradient 0 where clipped", ends, LABELS)
    yield clipped(
        "eps, NaN",
        "a comparison with NaN is false: clipping must not make it a number",
        put(x, (1, 1, NAN), (0, 3, NAN)),
        LABELS,
    )
    yield clipped(
        "eps, soft",
        "the gradient to a target is the clipped logarithm",
        ends,
        soft(6, 5, seed=2),
        to_targets=True,
    )
    small = {**NONE, "eps": 1e-15}
    yield rows(
        "eps below the dtype's",
        "1 - 1e-15 is 1 in float32: log(1 - p) of it was -inf, and 0·inf NaN",
        put(x, (0, 0, 1), (1, 1, 0), (2, 1, 1)),
        LABELS,
        options=small,
        dtypes=WIDE,
        see=(f"{SKLEARN}/24315", f"{KERAS}/377"),
    )
    for label, value, kind in [
        ("0.75", 0.75, ValueError),
        ("negative", -1e-7, ValueError),
        ("a word", "auto", TypeError),
    ]:
        yield rows(
            f"error: eps {label}",
            "clipped into an interval that is none",
            x,
            LABELS,
            options={"eps": value},
            upstream=1.0,
            error=kind,
            names="eps",
            dtypes=ONE,
        )
