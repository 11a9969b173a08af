"""Class indices in every integer dtype: what is a class, what is ignored, and what is neither.

And calls that cannot be right, and must say so before any arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from ..model import Array, Case
from .arrays import NAN, ONE, WIDE, P, S, W, X, Y, changed, logits
from .making import NONE, github, made

X200 = logits(6, 200)
SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
NEGATIVE = "a negative label must not count from the end"
BEYOND = "a label of C and more must not be clipped, dropped, or read past the row"
WRAPPED = "narrowed before it is compared, this label is another: -100, or a class"
SEE = github("google-deepmind/optax/issues/1185", "Theano/Theano/pull/3042")
BYTE = github("pytorch/pytorch/pull/86086")
# Of calls that cannot be right.
LISTS = "a list, a Python number or an array of another kind is not taken for what it may mean"
SHAPES = "a shape that does not fit must not be broadcast, reshaped or cut"
OPTIONS = "an option out of its range, or without meaning here"
ENLARGED = "weights that enlarge the rows make a loss of another shape"
READ = "validate=True reads the values, wherever they are"


def case(label: str, reason: str, t: Array, **rest: Any) -> Case:
    # Where a library has 64-bit integers with float64 only, theirs is the case that tells.
    dtypes = WIDE if t.dtype.itemsize == 8 else ONE
    return made("labels", label, reason, x=X200, targets=t, dtypes=dtypes, **rest)


def labelled(dtype: str, *values: int) -> Array:
    """Return good labels of a dtype, the given values first."""
    good = [3, 99, 0, 126, 41, 77]
    return np.array([*values, *good[len(values) :]], np.dtype(dtype))


def cases() -> Iterator[Case]:
    """Yield the families."""
    for dtype in SIGNED:
        labels = labelled(dtype, 127 if dtype == "int8" else 199, -100, 0)
        reason = "-100 is ignored, 0 and the last class are classes"
        yield case(dtype, reason, labels, quick=dtype == "int8")
    for dtype in UNSIGNED:
        reason = "as a signed byte 156 is -100, but it is a class"
        yield case(dtype, reason, labelled(dtype, 199, 156, 0), see=BYTE, quick=dtype == "uint8")
    yield from (*_ignored(), *_bad(), *_unread(), *_errors())


def _ignored() -> Iterator[Case]:
    def ignore(
        label: str, reason: str, index: int | None, dtype: str, *labels: int, **rest: Any
    ) -> Case:
        return case(f"ignore {label}", reason, labelled(dtype, *labels), ignore_index=index, **rest)

    chosen = "ignore_index is compared in a dtype that holds both"
    beyond = "beyond the dtype: 300 is no byte, and 44 is not ignored"
    signed = "as a signed byte 156 is -100: a bad label here"
    nothing = "-100 is a bad label where nothing is ignored"
    most = 2**64 - 100
    yield ignore("255", chosen, 255, "uint8", 199, 255, 0, quick=True)
    yield ignore("-1", chosen, -1, "int64", 199, -1, 0)
    yield ignore("a class", "a label in range that is ignored", 7, "int64", 7, 99, 7, 126)
    yield ignore("2^64-100", chosen, most, "uint64", 199, most, 0, **NONE)
    yield ignore("300 of bytes", beyond, 300, "uint8", 44, 199, 0)
    yield ignore("156 of signed bytes", signed, 156, "int8", 127, -100, 0, **NONE)
    yield ignore("None", nothing, None, "int64", 199, -100, 0, **NONE)
    yield ignore("None, good", "no label is ignored", None, "int64", 199, 5, 0)


def _bad() -> Iterator[Case]:
    def bad(dtype: str, value: int, reason: str, name: str = "", **rest: Any) -> Case:
        labels = labelled(dtype, 199 if dtype != "int8" else 127, value)
        return case(f"{name or value} as {dtype}", reason, labels, **{"see": SEE, **NONE, **rest})

    mean = "the mean over a bad label is NaN, not a plausible number"
    weighted = "a bad label has no class weight, and its row is NaN"
    smoothed = "smoothing gives no row back to a bad label"
    yield bad("int8", -1, NEGATIVE)
    yield bad("int16", -1, NEGATIVE, quick=True)
    yield bad("int64", -200, NEGATIVE)
    yield bad("int64", -(2**63), NEGATIVE, "-2^63")
    yield bad("int16", 200, BEYOND, quick=True)
    yield bad("int64", 200, BEYOND)
    yield bad("uint8", 255, BEYOND)
    yield bad("int64", 2**63 - 1, BEYOND, "2^63-1")
    yield bad("int64", 2**32 + 5, WRAPPED, "2^32+5")
    yield bad("uint16", 2**16 - 100, WRAPPED, "2^16-100")
    yield bad("uint32", 2**32 - 100, WRAPPED, "2^32-100")
    yield bad("uint64", 2**64 - 100, WRAPPED, "2^64-100", see=BYTE)
    yield bad("uint64", 2**32 + 5, WRAPPED, "2^32+5")
    yield case("mean of -1 as int64", mean, labelled("int64", 199, -1), see=SEE)
    yield bad("int64", 200, weighted, "weighted 200", weight=np.ones(200))
    yield bad("int64", -1, smoothed, "smoothed -1", label_smoothing=0.1)


def _unread() -> Iterator[Case]:
    reason = "validate=False reads no label: a bad one is NaN in its own row, and raises nowhere"
    never: dict[str, Any] = {"validate": False, **NONE}
    read = "validate=True reads the labels and finds nothing"
    yield case("unread, -1", reason, labelled("int64", 199, -1, -100), **never, quick=True)
    yield case("unread, 200", reason, labelled("int32", 200, 199, -100), **never)
    yield case("unread, 2^64-100", reason, labelled("uint64", 199, 2**64 - 100), **never)
    yield case("unread, good", reason, labelled("int64", 199, -100), validate=False)
    yield case("validated, good", read, changed(labelled("int64", 199, -100), 5, 12), validate=True)


def _errors() -> Iterator[Case]:
    """Return the calls that cannot be right."""
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
    yield wrong("logits a list", "logits", x=X.tolist())
    yield wrong("logits of integers", "logits", x=np.zeros((6, 5), np.int64))
    yield wrong("targets a list", "targets", targets=Y.tolist())
    yield wrong("targets of bools", "targets", targets=P > 0)
    yield wrong("a Python number for a target", "targets", x=X[0], targets=3)
    yield shape("logits of no axis", np.array(0), "logits", x=np.array(1.5))
    yield shape("no classes", Y, "logits", x=np.zeros((6, 0)))
    yield shape("too few labels", Y[:5], quick=True)
    yield shape("one label", Y[:1])
    yield shape("a column of labels", Y[:, None], quick=True)
    yield shape("labels of the wrong axis", Y.reshape(2, 3), x=images)
    yield shape("too few classes", P[:, :4])
    yield shape("one row of probabilities", P[:1], quick=True)
    yield shape("transposed probabilities", P.T)
    yield option("axis 2", "axis", 2)
    yield option("axis 1.0", "axis", 1.0, TypeError)
    yield option("a reduction unknown", "reduction", "median")
    yield option("smoothing 1.5", "label_smoothing", 1.5, quick=True)
    yield option("smoothing -0.1", "label_smoothing", -0.1)
    yield option("smoothing NaN", "label_smoothing", NAN)
    yield option("z-loss negative", "z_loss", -1e-4)
    yield option("softcap 0", "softcap", 0.0)
    yield option("softcap negative", "softcap", -30.0)
    yield option("ignore_index 1.5", "ignore_index", 1.5, TypeError)
    yield option("ignore_index with soft targets", "ignore_index", 1, targets=P)
    yield option("normalizer with sum", "normalizer", 4.0, reduction="sum", quick=True)
    yield option("normalizer with rows", "normalizer", 4.0, reduction="none")
    yield option("normalizer negative", "normalizer", -4.0)
    yield option("normalizer a vector", "normalizer", S)
    yield option("validate unknown", "validate", "always")
    yield option("weight a list", "weight", W.tolist(), TypeError, LISTS)
    yield option("weight too short", "weight", W[:4], reason=SHAPES, quick=True)
    yield option("weight a row", "weight", W[None], reason=SHAPES)
    yield option("sample weight too long", "sample_weight", np.ones(7), reason=SHAPES)
    yield option("sample weight enlarging", "sample_weight", two, reason=ENLARGED, quick=True)
    yield option("a weight an element", "sample_weight", np.ones((6, 5)), reason=ENLARGED)
    yield option("where enlarging", "where", two > 0, reason=ENLARGED)
    yield option("where a column", "where", np.ones((6, 1), bool), reason=ENLARGED)
    yield option("where of integers", "where", np.ones(6, np.int64), TypeError, LISTS)
    yield read("validate, -1", targets=changed(Y, 4, -1), error=IndexError, names="-1")
    yield read("validate, 5", targets=changed(Y, 4, 5), error=IndexError, names="5")
    yield read("validate, a weight negative", weight=negative, error=ValueError, names="weight")
    yield read("validate, a target negative", targets=below, error=ValueError, names="targets")
    yield read("validate, a sample weight negative", **samples, error=ValueError)
