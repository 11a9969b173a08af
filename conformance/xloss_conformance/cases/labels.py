"""Class indices in every integer dtype: what is a class, what is ignored, and what is neither."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..model import Array, Case
from .arrays import ONE, WIDE, changed, logits

NONE = {"reduction": "none"}
X200 = logits(6, 200)
SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
NEGATIVE = "a negative label must not count from the end"
BEYOND = "a label of C and more must not be clipped, dropped, or read past the row"
WRAPPED = "narrowed before it is compared, this label is another: -100, or a class"
SEE = (
    "https://github.com/google-deepmind/optax/issues/1185",
    "https://github.com/Theano/Theano/pull/3042",
)
BYTE = ("https://github.com/pytorch/pytorch/pull/86086",)


def case(label: str, reason: str, t: Array, **rest: Any) -> Case:
    # Where a library has 64-bit integers with float64 only, theirs is the case that tells.
    dtypes = WIDE if t.dtype.itemsize == 8 else ONE
    return Case("labels", label, reason, X200, t, **{"dtypes": dtypes, **rest})


def labelled(dtype: str, *values: int) -> Array:
    """Return good labels of a dtype, the given values first."""
    kind = np.dtype(dtype)
    good = [3, 99, 0, 126, 41, 77]
    return np.array([*values, *good[len(values) :]], kind)


def cases() -> list[Case]:
    """Return the family."""
    found = []
    for dtype in SIGNED:
        last = 127 if dtype == "int8" else 199
        found.append(
            case(
                dtype,
                "-100 is ignored, 0 and the last class are classes",
                labelled(dtype, last, -100, 0),
                quick=dtype == "int8",
            )
        )
    for dtype in UNSIGNED:
        found.append(
            case(
                dtype,
                "as a signed byte 156 is -100, but it is a class",
                see=BYTE,
                t=labelled(dtype, 199, 156, 0),
                quick=dtype == "uint8",
            )
        )
    return [*found, *_ignored(), *_bad(), *_unread()]


def _ignored() -> list[Case]:
    chosen = "ignore_index is compared in a dtype that holds both"
    at = (labelled("int64", 7, 99, 7, 126), {"ignore_index": 7})
    return [
        case(
            "ignore 255",
            chosen,
            labelled("uint8", 199, 255, 0),
            options={"ignore_index": 255},
            quick=True,
        ),
        case("ignore -1", chosen, labelled("int64", 199, -1, 0), options={"ignore_index": -1}),
        case("ignore a class", "a label in range that is ignored", at[0], options=at[1]),
        case(
            "ignore 2^64-100",
            chosen,
            labelled("uint64", 199, 2**64 - 100, 0),
            options={"ignore_index": 2**64 - 100, **NONE},
        ),
        case(
            "ignore 300 of bytes",
            "beyond the dtype: 300 is no byte, and 44 is not ignored",
            labelled("uint8", 44, 199, 0),
            options={"ignore_index": 300},
        ),
        case(
            "ignore 156 of signed bytes",
            "as a signed byte 156 is -100: a bad label here",
            labelled("int8", 127, -100, 0),
            options={"ignore_index": 156, **NONE},
        ),
        case(
            "ignore None",
            "-100 is a bad label where nothing is ignored",
            labelled("int64", 199, -100, 0),
            options={"ignore_index": None, **NONE},
        ),
        case(
            "ignore None, good",
            "no label is ignored",
            labelled("int64", 199, 5, 0),
            options={"ignore_index": None},
        ),
    ]


def _bad() -> list[Case]:
    def bad(dtype: str, value: int, reason: str, name: str = "", **rest: Any) -> Case:
        label = f"{name or value} as {dtype}"
        return case(
            label,
            reason,
            labelled(dtype, 199 if dtype != "int8" else 127, value),
            **{"options": NONE, "see": SEE, **rest},
        )

    return [
        bad("int8", -1, NEGATIVE),
        bad("int16", -1, NEGATIVE, quick=True),
        bad("int64", -200, NEGATIVE),
        bad("int64", -(2**63), NEGATIVE, "-2^63"),
        bad("int16", 200, BEYOND, quick=True),
        bad("int64", 200, BEYOND),
        bad("uint8", 255, BEYOND),
        bad("int64", 2**63 - 1, BEYOND, "2^63-1"),
        bad("int64", 2**32 + 5, WRAPPED, "2^32+5"),
        bad("uint16", 2**16 - 100, WRAPPED, "2^16-100"),
        bad("uint32", 2**32 - 100, WRAPPED, "2^32-100"),
        bad("uint64", 2**64 - 100, WRAPPED, "2^64-100", see=BYTE),
        bad("uint64", 2**32 + 5, WRAPPED, "2^32+5"),
        bad(
            "int64",
            -1,
            "the mean over a bad label is NaN, not a plausible number",
            "mean of -1",
            options={},
        ),
        bad(
            "int64",
            200,
            "a bad label has no class weight, and its row is NaN",
            "weighted 200",
            options={"weight": np.ones(200), **NONE},
        ),
        bad(
            "int64",
            -1,
            "smoothing gives no row back to a bad label",
            "smoothed -1",
            options={"label_smoothing": 0.1, **NONE},
        ),
    ]


def _unread() -> list[Case]:
    reason = "validate=False reads no label: a bad one is NaN in its own row, and raises nowhere"
    never = {"validate": False, **NONE}
    return [
        case("unread, -1", reason, labelled("int64", 199, -1, -100), options=never, quick=True),
        case("unread, 200", reason, labelled("int32", 200, 199, -100), options=never),
        case("unread, 2^64-100", reason, labelled("uint64", 199, 2**64 - 100), options=never),
        case("unread, good", reason, labelled("int64", 199, -100), options={"validate": False}),
        case(
            "validated, good",
            "validate=True reads the labels and finds nothing",
            changed(labelled("int64", 199, -100), 5, 12),
            options={"validate": True},
        ),
    ]
