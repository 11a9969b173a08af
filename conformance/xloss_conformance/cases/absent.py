"""Rows that are not there, batches without rows, and rows without a choice."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..model import Array, Case
from .arrays import INF, KEEP, NAN, ONE, WIDE, P, S, W, X, Y, changed, soft

NONE = {"reduction": "none"}
GONE = ~KEEP
LEAK = "0·NaN is NaN: what stands in an absent row must reach neither loss nor gradient"
TORCH = ("https://github.com/pytorch/pytorch/issues/11551",)
SMOOTH = ("https://github.com/pytorch/pytorch/issues/73205",)


def cases() -> list[Case]:
    """Return the families."""
    return [*_absent(), *_all_absent(), *_empty(), *_one_class()]


def _ways() -> dict[str, tuple[Array, dict[str, Any]]]:
    """Return by name: the labels and the options that leave rows 2 and 5 out."""
    return {
        "ignored": (np.where(GONE, -100, Y), {}),
        "where": (Y, {"where": KEEP}),
        "sample weight 0": (Y, {"sample_weight": np.where(GONE, 0.0, S)}),
    }


def _absent() -> list[Case]:
    nan = np.where(GONE[:, None], NAN, X)
    junk = {
        "NaN": nan,
        "inf": np.where(GONE[:, None], INF, X),
        "-inf": np.where(GONE[:, None], -INF, X),
    }
    soft_nan = np.where(GONE[:, None], NAN, P)

    def case(label: str, x: Array, t: Array, options: dict[str, Any], **rest: Any) -> Case:
        given = {"reason": LEAK, "see": TORCH, **rest}
        return Case("absent", label, x=x, targets=t, options=options, **given)

    found = []
    for way, (labels, options) in _ways().items():
        for what, x in junk.items():
            found.append(
                case(
                    f"{way}, {what}",
                    x,
                    labels,
                    options,
                    quick=what == "NaN",
                    dtypes=WIDE if what == "-inf" else ("float32", "float64", "float16"),
                )
            )
        found.append(case(f"{way}, rows", nan, labels, {**options, **NONE}))
        found.append(
            case(
                f"{way}, smoothed",
                nan,
                labels,
                {**options, "label_smoothing": 0.1},
                see=SMOOTH,
                reason="the uniform part counts absent rows, or leaks their NaN",
                dtypes=WIDE,
            )
        )
        found.append(case(f"{way}, z-loss", nan, labels, {**options, "z_loss": 0.5}, dtypes=ONE))
        found.append(case(f"{way}, softcap", nan, labels, {**options, "softcap": 8.0}, dtypes=ONE))
        if way != "ignored":
            soft_options = {**options, "weight": W}
            found.append(
                case(f"{way}, soft", nan, soft_nan, soft_options, dtypes=WIDE, to_targets=True)
            )
    bad = np.where(GONE, [0, 0, 77, 0, 0, -5], Y)
    exempt = "an absent row's label is exempt from every check"
    hidden = np.where(GONE, NAN, S)
    infinite = np.where(GONE, INF, S)
    return [
        *found,
        case("where, bad labels", X, bad, {"where": KEEP}, reason=exempt),
        case(
            "sample weight 0, bad labels",
            X,
            bad,
            {"sample_weight": np.where(GONE, 0.0, S)},
            reason=exempt,
        ),
        case(
            "where, bad labels, weighted",
            nan,
            bad,
            {"where": KEEP, "weight": W},
            reason=exempt,
            dtypes=ONE,
        ),
        case("where, NaN weights", nan, Y, {"where": KEEP, "sample_weight": hidden}, dtypes=WIDE),
        case(
            "where, inf weights",
            X,
            Y,
            {"where": KEEP, "sample_weight": infinite, **NONE},
            dtypes=WIDE,
        ),
        case(
            "ignored, NaN weights",
            nan,
            np.where(GONE, -100, Y),
            {"sample_weight": hidden},
            dtypes=WIDE,
        ),
        case(
            "all three ways",
            nan,
            changed(Y, 0, -100),
            {"where": KEEP, "sample_weight": changed(S, 4, 0.0)},
            dtypes=WIDE,
        ),
    ]


def _all_absent() -> list[Case]:
    reason = "0/0: a batch in which nothing counts is 0 with gradient 0, not NaN"
    see = (
        "https://github.com/pytorch/pytorch/issues/70348",
        "https://github.com/pytorch/pytorch/issues/116349",
        "https://github.com/NVIDIA-NeMo/Automodel/issues/3796",
    )
    ignored = np.full(6, -100)
    nowhere = {"where": np.zeros(6, bool)}
    zero = {"sample_weight": np.zeros(6)}
    nan = np.full((6, 5), NAN)

    def case(label: str, t: Array, options: dict[str, Any], **rest: Any) -> Case:
        given = {"x": X, **rest}
        return Case("all absent", label, reason, targets=t, options=options, see=see, **given)

    some = changed(np.ones(5), 1, 0.0)
    return [
        case("ignored", ignored, {}, quick=True),
        case("ignored, sum", ignored, {"reduction": "sum"}),
        case("ignored, rows", ignored, NONE),
        case("ignored, NaN", ignored, {}, x=nan),
        case("ignored, smoothed", ignored, {"label_smoothing": 0.1}, dtypes=WIDE),
        case("ignored, upstream", ignored, {}, upstream=2.5),
        case("where", Y, nowhere, dtypes=WIDE),
        case("where, NaN", Y, nowhere, x=nan, dtypes=WIDE),
        case("where, soft", P, nowhere, x=nan, dtypes=WIDE, to_targets=True),
        case("sample weight 0", Y, zero, quick=True, dtypes=WIDE),
        case("sample weight 0, soft", P, zero, dtypes=WIDE, to_targets=True),
        case("class weight 0", np.full(6, 1), {"weight": some}, dtypes=WIDE),
        case("soft rows of 0", np.zeros((6, 5)), {}, dtypes=WIDE),
        case("with a normalizer", ignored, {"normalizer": 4.0}, dtypes=WIDE),
    ]


def _empty() -> list[Case]:
    reason = "the mean over no rows is 0, where a division by the count is NaN or an error"
    see = (
        "https://github.com/pytorch/pytorch/issues/50224",
        "https://github.com/pytorch/pytorch/issues/15870",
    )
    none = np.zeros(0, np.int64)

    def case(label: str, shape: tuple[int, ...], t: Array, **rest: Any) -> Case:
        return Case("empty", label, reason, np.zeros(shape), t, see=see, **rest)

    return [
        case("mean", (0, 5), none, quick=True),
        case("sum", (0, 5), none, options={"reduction": "sum"}),
        case("rows", (0, 5), none, options=NONE),
        case("soft", (0, 5), np.zeros((0, 5)), to_targets=True, dtypes=WIDE),
        case(
            "weighted",
            (0, 5),
            none,
            options={"weight": W, "sample_weight": np.zeros(0)},
            dtypes=ONE,
        ),
        case("two row axes", (2, 0, 5), np.zeros((2, 0), np.int64), options=NONE, dtypes=WIDE),
        case(
            "class axis 1", (0, 5, 3), np.zeros((0, 3), np.int64), options={"axis": 1}, dtypes=WIDE
        ),
    ]


def _one_class() -> list[Case]:
    reason = "with one class p = 1: the loss and its gradient are exactly 0"
    x = X[:, :1]
    zero = np.zeros(6, np.int64)
    ends = np.concatenate([x[:4], [[INF]], [[-INF]]])
    lse = "lse is the logit itself"

    def case(label: str, t: Array = zero, reason: str = reason, **rest: Any) -> Case:
        return Case("one class", label, reason, **{"x": x, "targets": t, **rest})

    return [
        case("index", quick=True),
        case("rows", options=NONE),
        case("large", x=x * 1e4, options=NONE),
        case("infinite", x=ends, options=NONE, reason="+inf has the whole probability, -inf none"),
        case("smoothed", options={"label_smoothing": 0.1}, dtypes=WIDE),
        case("soft", soft(6, 5)[:, :1], dtypes=WIDE),
        case("z-loss", reason=lse, options={"z_loss": 0.5, **NONE}, dtypes=WIDE),
        case("softcap", options={"softcap": 8.0}, dtypes=ONE),
    ]
