"""Where the classes lie, how the arrays lie in memory, and what batch a row lies in."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..model import LAYOUTS, Array, Case
from .arrays import INF, KEEP, ONE, WIDE, P, S, W, X, Y, changed, labels, logits, soft, weights

NONE = {"reduction": "none"}


def cases() -> list[Case]:
    """Return the families."""
    return [*_axis(), *_layouts(), *_split()]


def _axis() -> list[Case]:
    reason = "the class axis is where the call says, and results lie as the arguments do"
    see = ("https://github.com/chainer/chainer/pull/5496",)
    last, y = X.reshape(2, 3, 5), Y.reshape(2, 3)
    middle, first = np.moveaxis(last, -1, 1), np.moveaxis(last, -1, 0)
    p = np.moveaxis(P.reshape(2, 3, 5), -1, 1)
    s = S.reshape(2, 3)

    def case(label: str, x: Array, t: Array, axis: int, **rest: Any) -> Case:
        options = {"axis": axis, **rest.pop("options", {})}
        given = {"dtypes": WIDE, "reason": reason, **rest}
        return Case("axis", label, x=x, targets=t, options=options, see=see, **given)

    both = {"weight": W, "sample_weight": s, "where": KEEP.reshape(2, 3), **NONE}
    broadcast = "weights broadcast to the rows as NumPy's arrays do"
    return [
        case("0 of 2", X.T, Y, 0),
        case("0 of 3", first, y, 0),
        case("1 of 3", middle, y, 1, quick=True),
        case("-1 of 3", last, y, -1),
        case("-2 of 3", middle, y, -2),
        case("2 of 3, rows", last, y, 2, options=NONE),
        case("1 of 3, rows", middle, y, 1, options=NONE),
        case("1 of 3, soft", middle, p, 1, to_targets=True, dtypes=ONE),
        case(
            "1 of 3, soft and smoothed",
            middle,
            p,
            1,
            options={"label_smoothing": 0.1, "weight": W},
            dtypes=ONE,
        ),
        case("1 of 3, every weight", middle, y, 1, options=both, quick=True, dtypes=ONE),
        case(
            "1 of 3, a weight a column",
            middle,
            y,
            1,
            dtypes=ONE,
            reason=broadcast,
            options={"sample_weight": S[:3]},
        ),
        case(
            "1 of 3, a weight a line",
            middle,
            y,
            1,
            dtypes=ONE,
            reason=broadcast,
            options={"sample_weight": S[:2, None], "where": np.array([True, False, True])},
        ),
        case(
            "1 of 3, upstream", middle, y, 1, options=NONE, upstream=S.reshape(2, 3) - 1, dtypes=ONE
        ),
        case("a single row", X[0], np.array(Y[0]), 0, dtypes=ONE),
        case("a single row, soft", X[0], P[0], -1, dtypes=ONE),
        case(
            "1 of 4, as images",
            logits(24, 5).reshape(2, 3, 4, 5).transpose(0, 3, 1, 2),
            labels(24, 5).reshape(2, 3, 4),
            1,
            dtypes=ONE,
        ),
    ]


def _layouts() -> list[Case]:
    reason = {
        "C": "as it comes",
        "F": "a transposed batch read by the wrong stride",
        "reversed": "negative strides",
        "strided": "rows and classes apart in memory",
        "broadcast": "one row standing for all: stride 0",
        "readonly": "a loss that works in its argument's memory",
        "swapped": "bytes in the other order, as a file of another machine holds them",
        "misaligned": "numbers at an odd address, as a record or a mapped file holds them",
        "filtered": "lazy rows whose number is not known before they are computed",
    }
    see = (
        "https://github.com/NVIDIA/TransformerEngine/issues/2734",
        "https://github.com/pytorch/pytorch/issues/67167",
    )
    inplace = (
        "https://github.com/linkedin/Liger-Kernel/issues/343",
        "https://github.com/unslothai/unsloth/issues/5002",
    )
    seen = {
        "readonly": inplace,
        "swapped": ("https://github.com/ratal/mdfreader/issues/59",),
        "misaligned": (
            "https://github.com/scikit-learn/scikit-learn/pull/21654",
            "https://github.com/numpy/numpy/issues/16660",
        ),
        "filtered": (
            "https://github.com/dask/dask-ml/issues/976",
            "https://github.com/dask/dask-ml/pull/147",
        ),
    }
    one = np.broadcast_to(X[:1], X.shape)
    found = []
    for layout in LAYOUTS:
        x = one if layout == "broadcast" else X
        common: dict[str, Any] = {"layout": layout, "see": seen.get(layout, see)}
        if layout in ("swapped", "misaligned", "filtered"):
            common["dtypes"] = WIDE  # NumPy's 16-bit floats are of one byte order
        found += [
            Case(
                "layouts",
                layout,
                reason[layout],
                x,
                Y,
                quick=layout in ("F", "readonly", "swapped", "filtered"),
                **common,
            ),
            Case(
                "layouts",
                f"{layout}, soft",
                reason[layout],
                x,
                P,
                options={"sample_weight": S},
                to_targets=layout == "readonly",
                **{**common, "dtypes": WIDE},
            ),
        ]
    middle = np.moveaxis(X.reshape(2, 3, 5), -1, 1)
    for layout in ("F", "reversed", "strided", "readonly"):
        found.append(
            Case(
                "layouts",
                f"{layout}, axis 1",
                reason[layout],
                middle,
                Y.reshape(2, 3),
                see=see,
                layout=layout,
                options={"axis": 1},
                dtypes=ONE,
            )
        )
    return found


def _split() -> list[Case]:
    reason = "sums along a row that depend on the batch: other bits alone than among others"
    see = ("https://github.com/vllm-project/vllm/pull/55249",)
    x, y = logits(24, 200), labels(24, 200)
    masked = changed(x, (slice(None), slice(0, 60)), -INF)
    later = 60 + y % 140

    def case(label: str, x: Array = x, t: Array = y, **rest: Any) -> Case:
        return Case("split", label, reason, x, t, split=True, see=see, **{"dtypes": WIDE, **rest})

    blocks = np.tile(logits(7, 200), (100, 1))
    return [
        case("index", quick=True),
        case("soft", t=soft(24, 200)),
        case("smoothed", options={"label_smoothing": 0.1}),
        case("weighted", options={"weight": weights(200), "sample_weight": weights(24)}),
        case("z-loss", options={"z_loss": 0.5}),
        case("softcap", options={"softcap": 30.0}),
        case("masked", masked, later),
        case("Fortran order", layout="F", quick=True),
        case("reversed", layout="reversed"),
        case("strided", layout="strided"),
        case("Fortran order, soft", t=soft(24, 200), layout="F"),
        case("16 bits", dtypes=("float16", "bfloat16")),
        # More than one block of rows: the seven distinct ones stand in it 100 times.
        case("700 rows", blocks, np.tile(labels(7, 200), 100), value_only=True, dtypes=ONE),
    ]
