"""Calls that cannot be right, and must say so before any arithmetic."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..model import Array, Case
from .arrays import NAN, ONE, P, S, W, X, Y, changed
from .making import made

LISTS = "a list, a Python number or an array of another kind is not taken for what it may mean"
SHAPES = "a shape that does not fit must not be broadcast, reshaped or cut"
OPTIONS = "an option out of its range, or without meaning here"
ENLARGED = "weights that enlarge the rows make a loss of another shape"
READ = "validate=True reads the values, wherever they are"


def cases() -> list[Case]:
    """Return the family."""
    case = partial(made, "errors", x=X, targets=Y, dtypes=ONE, value_only=True)

    def wrong(label: str, names: str, **instead: Any) -> Case:
        given = {"error": TypeError, "instead": instead, "quick": "bool" in label}
        return case(label, LISTS, names=names, **given)

    def shape(label: str, targets: Array, names: str = "targets", **rest: Any) -> Case:
        return case(label, SHAPES, targets=targets, names=names, error=ValueError, **rest)

    def option(
        what: str, name: str, value: Any, kind: Any = ValueError, reason: str = OPTIONS, **rest: Any
    ) -> Case:
        return case(what, reason, **{name: value}, error=kind, names=name, **rest)

    read = partial(case, reason=READ, validate=True)
    images, two = np.moveaxis(X.reshape(2, 3, 5), -1, 1), np.ones((2, 6))
    negative, below = changed(W, 1, -1.0), changed(P, (3, 1), -0.5)
    samples = {"sample_weight": changed(S, 2, -1.0), "names": "sample_weight"}
    return [
        wrong("logits a list", "logits", x=X.tolist()),
        wrong("logits of integers", "logits", x=np.zeros((6, 5), np.int64)),
        wrong("targets a list", "targets", targets=Y.tolist()),
        wrong("targets of bools", "targets", targets=P > 0),
        wrong("a Python number for a target", "targets", x=X[0], targets=3),
        shape("logits of no axis", np.array(0), "logits", x=np.array(1.5)),
        shape("no classes", Y, "logits", x=np.zeros((6, 0))),
        shape("too few labels", Y[:5], quick=True),
        shape("one label", Y[:1]),
        shape("a column of labels", Y[:, None], quick=True),
        shape("labels of the wrong axis", Y.reshape(2, 3), x=images),
        shape("too few classes", P[:, :4]),
        shape("one row of probabilities", P[:1], quick=True),
        shape("transposed probabilities", P.T),
        option("axis 2", "axis", 2),
        option("axis 1.0", "axis", 1.0, TypeError),
        option("a reduction unknown", "reduction", "median"),
        option("smoothing 1.5", "label_smoothing", 1.5, quick=True),
        option("smoothing -0.1", "label_smoothing", -0.1),
        option("smoothing NaN", "label_smoothing", NAN),
        option("z-loss negative", "z_loss", -1e-4),
        option("softcap 0", "softcap", 0.0),
        option("softcap negative", "softcap", -30.0),
        option("ignore_index 1.5", "ignore_index", 1.5, TypeError),
        option("ignore_index with soft targets", "ignore_index", 1, targets=P),
        option("normalizer with sum", "normalizer", 4.0, reduction="sum", quick=True),
        option("normalizer with rows", "normalizer", 4.0, reduction="none"),
        option("normalizer negative", "normalizer", -4.0),
        option("normalizer a vector", "normalizer", S),
        option("validate unknown", "validate", "always"),
        option("weight a list", "weight", W.tolist(), TypeError, LISTS),
        option("weight too short", "weight", W[:4], reason=SHAPES, quick=True),
        option("weight a row", "weight", W[None], reason=SHAPES),
        option("sample weight too long", "sample_weight", np.ones(7), reason=SHAPES),
        option("sample weight enlarging", "sample_weight", two, reason=ENLARGED, quick=True),
        option("a weight an element", "sample_weight", np.ones((6, 5)), reason=ENLARGED),
        option("where enlarging", "where", two > 0, reason=ENLARGED),
        option("where a column", "where", np.ones((6, 1), bool), reason=ENLARGED),
        option("where of integers", "where", np.ones(6, np.int64), TypeError, LISTS),
        read("validate, -1", targets=changed(Y, 4, -1), error=IndexError, names="-1"),
        read("validate, 5", targets=changed(Y, 4, 5), error=IndexError, names="5"),
        read("validate, a weight negative", weight=negative, error=ValueError, names="weight"),
        read("validate, a target negative", targets=below, error=ValueError, names="targets"),
        read("validate, a sample weight negative", **samples, error=ValueError),
    ]
