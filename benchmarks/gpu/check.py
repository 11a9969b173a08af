"""What must come out of the calls that are timed on a GPU, by NumPy's float64; errors in ulp."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from xloss_conformance.timing import Call, NotOffered

from ..work import Array, Work
from . import plan

READ = 16  # rows whose losses, and every gradient entry, are compared; the first has the tail
BITS = {"float16": 11, "bfloat16": 8, "float32": 24}  # of a format's significand
LEAST = {"float16": 2.0**-24, "bfloat16": 2.0**-133, "float32": 2.0**-149}  # above 0
BEYOND = 1e9  # ulp of what is no number
ALLOWED = 4.0  # ulp of the loss, and of a gradient's entry
ALLOWED_16 = 1.0  # of the 16-bit format: computed in float32, rounded once


class Right(NamedTuple):
    """The mean; losses and gradient of the rows that are read."""

    value: float
    losses: Array
    gradient: Array | None


def rows_read(work: Work) -> Array:
    """Return the rows that are compared: from the first to the last."""
    count = work.elements // work.classes
    return np.unique(np.linspace(0, count - 1, READ).astype(np.int64))


@lru_cache(1)
def _rows(op: str, shape: tuple[int, ...], dtype: str, axis: int) -> tuple[float, Array, Array]:
    """Return the mean, and losses and gradient of the rows that are read.

    The largest logit stays out of the sums, so that nothing cancels: a loss of 1e-6 has all of its
    digits.
    """
    work, drawn = Work(op, shape, axis=axis), plan.data(op, shape, dtype, axis)
    x, y = drawn.x.astype(np.float64), drawn.y
    each, top = np.arange(len(x)), x.argmax(-1)
    most = x[each, top]
    terms = np.exp(x - most[:, None])
    terms[each, top] = 0
    rest = terms.sum(-1)
    of = np.arange(len(y)) % len(x)
    losses = np.log1p(rest)[of] + (most[of] - x[of, y])
    at = rows_read(work)
    row, label, n = of[at], y[at], np.arange(len(at))
    terms = terms[row]
    gradient = terms / (1 + rest[row, None])
    gradient[n, top[row]] = 1 / (1 + rest[row])
    others = rest[row] - terms[n, label] + 1
    gradient[n, label] = -np.where(label == top[row], rest[row], others) / (1 + rest[row])
    return float(losses.mean()), losses[at], gradient / len(y)


def right(work: Work) -> Right:
    """Return what a call on the data of `plan.data` must give."""
    value, losses, gradient = _rows(work.op, work.shape, work.dtype, work.axis)
    return Right(value, losses, gradient if work.gradient else None)


def compared(work: Work, call: Call, got: Any, want: Right) -> dict[str, Any]:
    """Return the errors of an answer; NotOffered where another thing is computed."""
    value, gradient = call.answer(got)
    loose = 0.02 if BITS[work.dtype] < 24 else 1e-3
    if not abs(value - want.value) <= loose * abs(want.value):
        raise NotOffered(f"computes something else: {value:.6g}, not {want.value:.6g}")
    # What the linear loss must give is itself computed in float32.
    found: dict[str, Any] = {"value_ulp": None, "gradient_ulp": None, "tail": None}
    if not work.features:
        found["value_ulp"] = _worst(np.asarray([value]), np.asarray([want.value]), "float32")
        losses = call.losses() if call.losses is not None else None
        if losses is not None:
            ulp = _worst(losses[1:], want.losses[1:], "float32")
            found["value_ulp"] = max(found["value_ulp"], ulp)
            found["tail"] = float(losses[0] / want.losses[0] - 1)
    if want.gradient is not None and gradient is not None:
        if not np.abs(gradient - want.gradient).max() <= loose * np.abs(want.gradient).max():
            raise NotOffered("computes another gradient")
        if not work.features:
            found["gradient_ulp"] = _worst(gradient[1:], want.gradient[1:], work.dtype)
    return found


def _worst(got: Array, want: Array, dtype: str) -> float:
    """Return the largest error in ulp: distances of neighbouring numbers at the exact value."""
    with np.errstate(all="ignore"):
        exponent = np.frexp(np.abs(want))[1]
        ulp = np.maximum(np.ldexp(1.0, exponent - BITS[dtype]), LEAST[dtype])
        worst = float(np.max(np.abs(got - want) / ulp, initial=0.0))
    return worst if worst < BEYOND else BEYOND


def allowed(dtype: str, gradient: bool) -> float:
    """Return how many ulp a loss, or an entry of a gradient, may be off."""
    return ALLOWED_16 if gradient and BITS[dtype] < 24 else ALLOWED
