"""Every combination of weights, masks, smoothing, reduction and targets; z-loss; softcap."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from ..model import Array, Case
from .arrays import INF, KEEP, MASKED, ONE, P_MASKED, P, S, W, X, Y, changed, confident, one_hot

NONE = {"reduction": "none"}
WEIGHTED = ("https://github.com/pytorch/pytorch/issues/107680",)
SAMPLES = ("https://github.com/keras-team/keras/issues/19740",)
SMOOTHED = ("https://github.com/NVIDIA/Megatron-LM/issues/737",)


def cases() -> list[Case]:
    """Return the families."""
    return [*_options(), *_z_loss(), *_softcap()]


def _options() -> list[Case]:
    found = []
    arrays = {"weight": W, "sample_weight": S, "where": KEEP}
    quick = {
        "weight, mean, soft",
        "sample_weight, mean, index",
        "where, mean, index",
        "smoothed, mean, index",
        "weight, sample_weight, where, smoothed, mean, soft",
        "weight, sample_weight, where, smoothed, mean, index",
        "weight, sum, index",
    }
    for flags in product((False, True), repeat=4):
        used = [name for name, on in zip((*arrays, "smoothed"), flags, strict=True) if on]
        given: dict[str, Any] = {name: arrays[name] for name in used if name in arrays}
        if flags[3]:
            given["label_smoothing"] = 0.1
        for reduction, kind in product(("mean", "sum", "none"), ("index", "soft")):
            options = {**given, "reduction": reduction}
            label = ", ".join([*used, reduction, kind])
            see: tuple[str, ...] = ()
            if reduction == "mean":
                see = (*WEIGHTED * flags[0], *SAMPLES * flags[1])
            found.append(
                Case(
                    "options",
                    label,
                    _reason(flags, reduction, kind),
                    X,
                    Y if kind == "index" else P,
                    options=options,
                    dtypes=ONE,
                    quick=label in quick,
                    see=(*see, *SMOOTHED * flags[3]),
                )
            )
    whole = (
        "the denominator is what is given, the tokens of a whole batch say, and no sum of weights"
    )
    for label, t in (("index", Y), ("soft", P)):
        found.append(
            Case(
                "options",
                f"normalizer, {label}",
                whole,
                X,
                t,
                dtypes=ONE,
                quick=label == "index",
                options={**arrays, "normalizer": 4.0},
            )
        )
    return found


def _reason(flags: tuple[bool, ...], reduction: str, kind: str) -> str:
    weight, samples, where, smoothed = flags
    if reduction == "mean" and (weight or samples):
        which = "Σ_j weight_j t_ij" if kind == "soft" and weight else "the weights"
        return f"the mean divides by {which} of the present rows, not by their number"
    if reduction == "mean" and where:
        return "the mean is over the present rows"
    if smoothed and weight:
        return "a smoothed row's classes are weighed one by one, not all by the label's weight"
    if smoothed:
        return "ε is spread over all classes, the label's included"
    return "options act together as each does alone"


def _z_loss() -> list[Case]:
    reason = "λ·W·lse² weighs as its row does, and stays out of smoothing"
    see = ("https://github.com/allenai/OLMo-core/pull/702",)

    def case(label: str, t: Array = Y, reason: str = reason, **rest: Any) -> Case:
        options = {"z_loss": 0.5, **rest.pop("options", {})}
        return Case(
            "z-loss",
            label,
            reason,
            **{"x": X, "targets": t, "dtypes": ONE, "see": see, "options": options, **rest},
        )

    all_weights = {"weight": W, "sample_weight": S}
    ones = changed(np.ones(5), 3, 0.0)
    return [
        case("index", quick=True, dtypes=("float32", "float64", "bfloat16")),
        case("soft", P, quick=True),
        case("small", options={"z_loss": 1e-4}),
        case("sum", options={"reduction": "sum"}),
        case("weighted", options=all_weights, quick=True),
        case("weighted, soft", P, options=all_weights),
        case("weighted, soft, smoothed", P, options={**all_weights, "label_smoothing": 0.1}),
        case("ignored", np.where(KEEP, Y, -100), "an ignored row has no z-loss"),
        case("large lse", x=X + 1000, reason="lse² is of the logits as given, not shifted"),
        case("negative lse", x=X - 20, reason="the gradient has the sign of lse"),
        case(
            "lse of 0",
            x=X - np.round(np.log(np.exp(X).sum(1)) * 1024)[:, None] / 1024,
            reason="m and log(1 + r) cancel in lse",
        ),
        case("confident", np.array([0]), x=confident(20), reason="the tail stays beside the term"),
        case("masked", x=MASKED, reason="lse is of the possible classes"),
        case(
            "soft rows of other sums",
            P * np.array([[0.5], [1], [2], [0], [1], [1]]),
            "W is the sum of the row's targets: a row of 0 has no z-loss",
        ),
        case(
            "class weight 0",
            options={"weight": ones, **NONE},
            reason="W is 0 with the label's weight: no z-loss",
        ),
        case("normalizer", options={"normalizer": 4.0}, reason="the term is divided as the rest"),
    ]


def _softcap() -> list[Case]:
    reason = "the loss is of c·tanh(x/c)"
    see = ("https://github.com/apple/ml-cross-entropy/issues/48",)
    padded = ("https://github.com/unslothai/unsloth/pull/10616",)
    spread = X * 8
    flat = "1 - tanh² is 0 from x/c = 10 on, where sech² still has every digit"

    def case(label: str, x: Array, t: Array = Y, reason: str = reason, **rest: Any) -> Case:
        options = {"softcap": 30.0, **rest.pop("options", {})}
        return Case(
            "softcap",
            label,
            reason,
            **{"x": x, "targets": t, "dtypes": ONE, "see": see, "options": options, **rest},
        )

    infinite = changed(changed(X, 1, [1, INF, 2, 0, 1]), 4, [INF, 1, -INF, 0, INF])
    weighted = {"label_smoothing": 0.1, "weight": W}
    return [
        case("30", spread, quick=True, dtypes=("float32", "float64", "bfloat16")),
        case("30, far", X * 40, reason="logits beyond the cap are not clipped: a slope is left"),
        case("8", spread, options={"softcap": 8.0, **NONE}),
        case("1", X * 4, options={"softcap": 1.0, **NONE}, reason=flat),
        case("1, far", X * 8, options={"softcap": 1.0, **NONE}, reason=flat, quick=True),
        case("tail", confident(25), np.array([0]), reason="the tail survives the cap"),
        case("soft", spread, P),
        case("smoothed and weighted", spread, options=weighted),
        case("z-loss", spread, options={"z_loss": 0.5}, reason="lse is of the capped logits"),
        case(
            "masked",
            np.where(MASKED == -INF, -INF, spread),
            quick=True,
            see=padded,
            options={"softcap": 8.0},
            reason="tanh(-inf) is -1: a masked class comes back as -c",
        ),
        case(
            "masked, soft, smoothed",
            np.where(MASKED == -INF, -INF, spread),
            P_MASKED,
            see=padded,
            options={"label_smoothing": 0.1},
            reason="tanh(-inf) is -1",
        ),
        case("one-hot, masked", MASKED, one_hot(Y, 5), see=padded, reason="tanh(-inf) is -1"),
        case("+inf", infinite, options=NONE, reason="a cap makes +inf c, with slope 0"),
    ]
