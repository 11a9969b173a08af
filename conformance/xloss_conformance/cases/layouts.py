"""Where the classes lie, how the arrays lie in memory, and what batch a row lies in."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from ..model import DTYPES, LAYOUTS, Case
from .arrays import INF, KEEP, ONE, WIDE, P, S, W, X, Y, changed, labels, logits, soft, weights
from .making import NONE, github, made, torch


def cases() -> list[Case]:
    """Return the families."""
    return [*_axis(), *_layouts(), *_split()]


def _axis() -> Iterator[Case]:
    last, y = X.reshape(2, 3, 5), Y.reshape(2, 3)
    middle, first = np.moveaxis(last, -1, 1), np.moveaxis(last, -1, 0)
    p = np.moveaxis(P.reshape(2, 3, 5), -1, 1)
    s = S.reshape(2, 3)
    reason = "the class axis is where the call says, and results lie as the arguments do"
    case = partial(made, "axis", reason=reason, targets=y, see=github("chainer/chainer/pull/5496"))
    case = partial(case, dtypes=WIDE)
    second = partial(case, x=middle, axis=1)
    one = partial(second, dtypes=ONE)
    broadcast = partial(one, reason="weights broadcast to the rows as NumPy's arrays do")
    both = {"weight": W, "sample_weight": s, "where": KEEP.reshape(2, 3), **NONE}
    line = {"sample_weight": S[:2, None], "where": np.array([True, False, True])}
    images = logits(24, 5).reshape(2, 3, 4, 5).transpose(0, 3, 1, 2)
    yield case("0 of 2", x=X.T, targets=Y, axis=0)
    yield case("0 of 3", x=first, axis=0)
    yield second("1 of 3", quick=True)
    yield case("-1 of 3", x=last, axis=-1)
    yield second("-2 of 3", axis=-2)
    yield case("2 of 3, rows", x=last, axis=2, **NONE)
    yield second("1 of 3, rows", **NONE)
    yield one("1 of 3, soft", targets=p, to_targets=True)
    yield one("1 of 3, soft and smoothed", targets=p, label_smoothing=0.1, weight=W)
    yield one("1 of 3, every weight", **both, quick=True)
    yield broadcast("1 of 3, a weight a column", sample_weight=S[:3])
    yield broadcast("1 of 3, a weight a line", **line)
    yield one("1 of 3, upstream", **NONE, upstream=s - 1)
    yield one("a single row", x=X[0], targets=np.array(Y[0]), axis=0)
    yield one("a single row, soft", x=X[0], targets=P[0], axis=-1)
    yield one("1 of 4, as images", x=images, targets=labels(24, 5).reshape(2, 3, 4))


def _layouts() -> Iterator[Case]:
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
    see = github("NVIDIA/TransformerEngine/issues/2734") + torch(67167)
    inplace = github("linkedin/Liger-Kernel/issues/343", "unslothai/unsloth/issues/5002")
    seen = {
        "readonly": inplace,
        "swapped": github("ratal/mdfreader/issues/59"),
        "misaligned": github("scikit-learn/scikit-learn/pull/21654", "numpy/numpy/issues/16660"),
        "filtered": github("dask/dask-ml/issues/976", "dask/dask-ml/pull/147"),
    }
    middle = np.moveaxis(X.reshape(2, 3, 5), -1, 1)
    for layout in LAYOUTS:
        # NumPy's 16-bit floats are of one byte order.
        dtypes = WIDE if layout in ("swapped", "misaligned", "filtered") else DTYPES
        x = np.broadcast_to(X[:1], X.shape) if layout == "broadcast" else X
        case = partial(made, "layouts", reason=reason[layout], x=x, targets=Y, layout=layout)
        case = partial(case, see=seen.get(layout, see), dtypes=dtypes)
        own = {"sample_weight": S, "to_targets": layout == "readonly", "dtypes": WIDE}
        yield case(layout, quick=layout in ("F", "readonly", "swapped", "filtered"))
        yield case(f"{layout}, soft", targets=P, **own)
    for layout in ("F", "reversed", "strided", "readonly"):
        turned = {"x": middle, "targets": Y.reshape(2, 3), "layout": layout, "axis": 1}
        yield made("layouts", f"{layout}, axis 1", reason[layout], **turned, see=see, dtypes=ONE)


def _split() -> Iterator[Case]:
    x, y = logits(24, 200), labels(24, 200)
    reason = "sums along a row that depend on the batch: other bits alone than among others"
    case = partial(made, "split", reason=reason, x=x, targets=y, split=True)
    case = partial(case, see=github("vllm-project/vllm/pull/55249"), dtypes=WIDE)
    # More than one block of rows: the seven distinct ones stand in it 100 times.
    blocks = {"x": np.tile(logits(7, 200), (100, 1)), "targets": np.tile(labels(7, 200), 100)}
    yield case("index", quick=True)
    yield case("soft", targets=soft(24, 200))
    yield case("smoothed", label_smoothing=0.1)
    yield case("weighted", weight=weights(200), sample_weight=weights(24))
    yield case("z-loss", z_loss=0.5)
    yield case("softcap", softcap=30.0)
    yield case("masked", x=changed(x, (slice(None), slice(0, 60)), -INF), targets=60 + y % 140)
    yield case("Fortran order", layout="F", quick=True)
    yield case("reversed", layout="reversed")
    yield case("strided", layout="strided")
    yield case("Fortran order, soft", targets=soft(24, 200), layout="F")
    yield case("16 bits", dtypes=("float16", "bfloat16"))
    yield case("700 rows", **blocks, value_only=True, dtypes=ONE)
